"""Each measurement in miniature, most of them against one server of one small memory."""

import sys
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from harness.processes import Running
from sampling import (
    compiling,
    cost,
    crowd,
    growth,
    latency,
    learner,
    load,
    mixed,
    precision,
    rivals,
    sharing,
    single,
    stalled,
    transports,
)
from sampling.bench import DGMW, SMALL, Bench

pytestmark = pytest.mark.slow  # measurements in miniature take as long as the product's own tests

SECONDS = 0.2


@dataclass(frozen=True)
class OneServer(Bench):
    """A run whose measurements all get the server that is there."""

    server: Running = None

    def serving(self, generator, tasks=1, cores=(), **settings):
        return nullcontext(self.server)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("run"), SECONDS, generators=(SMALL,), clients=(1, 3), tasks=(4, 5))


@pytest.fixture(scope="module")
def bench(plain):
    with plain.serving(SMALL, 10) as server:
        fields = {
            name: getattr(plain, name) for name in ("folder", "seconds", "generators", "clients", "tasks", "_made")
        }
        yield OneServer(**fields, server=server)


def by_name(rows):
    found = {row.what: row for row in rows}
    assert all(row.value > 0 and (row.ratio is None or row.ratio > 0) for row in found.values())
    return found


def test_one_client_is_compared_with_the_generator_in_process(bench):
    rows = by_name(single.measure(bench))
    own, served = rows["24-12-6, in process"], rows["24-12-6, served"]
    assert served.ratio == pytest.approx(served.value / own.value)
    cpu = rows["24-12-6, served: CPU of both ends"]
    assert cpu.ratio == pytest.approx(cpu.value / own.detail["cpu_us_per_image"])
    assert served.goal is None, "the goal is for the large generator"


def test_what_a_request_and_a_batch_cost_is_compared_with_the_generator_in_process(bench):
    rows = by_name(cost.measure(bench))
    for what in ("a request of 64", "a batch of 256 of a stream"):
        own, server, client = (rows[f"24-12-6, {what}: {side}"] for side in ("in process", "server", "client"))
        assert server.ratio == pytest.approx(server.value / own.value)
        assert client.ratio == pytest.approx(client.value / own.value)


def test_compiled_experts_are_compared_with_the_naive_forward(bench, monkeypatch):
    monkeypatch.setattr(compiling.compiled, "TASKS", 2)
    rows = by_name(compiling.measure(replace(bench, seconds=0.0)))
    assert all(row.ratio == pytest.approx(row.value / row.detail["naive"]) for row in rows.values())
    assert [row.goal is not None for row in rows.values()] == [False, False, True]


def test_reduced_precision_is_compared_with_the_full_one(bench):
    rows = by_name(precision.measure(bench))
    for where in ("in process", "served"):
        full, reduced = (rows[f"24-12-6, {where}, {each}"] for each in ("full", "reduced"))
        assert reduced.ratio == pytest.approx(reduced.value / full.value)
    assert 0 < rows["shipped base: distance of a pixel"].value < 4


def test_one_call_for_ten_tasks_is_compared_with_ten_calls(bench, monkeypatch):
    monkeypatch.setattr(mixed, "SIZES", (20,))
    monkeypatch.setattr(mixed, "DGMW", SMALL)
    (row,) = by_name(mixed.measure(bench)).values()
    assert row.ratio == pytest.approx(row.detail["ten_calls_ms"] / row.value)


def test_many_clients_are_compared_with_ten(bench):
    rows = by_name(crowd.measure(replace(bench, clients=(1, 10, 12))))
    assert [row.ratio is None for row in rows.values()] == [True, True, False]
    assert all(row.detail["server_cpu_us_per_image"] > 0 for row in rows.values())


def test_latency_is_compared_with_three_device_batches(bench, monkeypatch):
    monkeypatch.setattr(load, "FEWEST_REQUESTS", 10)
    rows = by_name(latency.measure(bench))
    batch, high = rows["24-12-6, one device batch of 64"], rows["24-12-6, 3 clients: p99"]
    assert high.ratio == pytest.approx(high.value / (3 * batch.value + 5))
    assert high.value >= rows["24-12-6, 3 clients: p50"].value


def test_transports_that_the_server_has_are_compared_with_tcp(plain):
    rows = by_name(transports.measure(replace(plain, seconds=0.05)))
    assert len(rows) == 2 * len(transports.ways(plain.folder))
    assert [row.ratio is None for row in rows.values()] == ["TCP" in what for what in rows]


def test_a_transport_is_left_out_unless_the_server_has_its_setting(monkeypatch):
    has = set()
    monkeypatch.setattr(transports, "offers", lambda setting: setting in has)
    assert transports.ways(Path("x")) == {"TCP": {}}
    has |= {"unix_socket", "shared_memory"}
    ways = transports.ways(Path("x"))
    assert ways["TCP"] == {"shared_memory": False}
    assert ways["unix socket"] == {"shared_memory": False, "unix_socket": Path("x/socket")}
    assert ways["shared memory"] == {"shared_memory": True}


def test_a_learner_takes_its_replay_from_either_source(bench, monkeypatch):
    monkeypatch.setitem(learner.WIDTHS, "cpu", 2)
    own, replayed = by_name(learner.measure(bench)).values()
    assert replayed.ratio == pytest.approx(replayed.value / own.value)


def test_the_learner_is_as_deep_as_resnet_18():
    layers = [module for module in learner.resnet(4).modules() if type(module).__name__ in ("Conv2d", "Linear")]
    assert len(layers) == 18 + 3, "and three projections"


def test_peers_that_are_there_are_compared_with_ours_and_the_others_are_named(bench, capsys):
    rows = by_name(rivals.measure(replace(bench, peers=Path(sys.executable))))
    theirs, ours = rows["24-12-6, plain grpc.aio, 3 clients"], rows["24-12-6, ours, 3 clients"]
    assert theirs.ratio == pytest.approx(ours.value / theirs.value)
    assert "Ray Serve: not measured: run make bench-peers-setup" in capsys.readouterr().err
    assert not any("LitServe" in what for what in rows)


BESIDE = "stream of one task beside one of all"
NEARLY = "stream of all with a seed, room for nineteen of twenty experts: CPU of both ends"


def test_growth_is_compared_with_the_smallest_memory(plain):
    rows = by_name(growth.measure(plain))
    first, last = (rows[f"{tasks} tasks: the commit of one more"] for tasks in plain.tasks)
    assert last.ratio == pytest.approx(last.value / first.value)
    assert last.detail["manifest_kib"] > first.detail["manifest_kib"]
    beside, nearly = (rows[f"5 tasks: {what}"] for what in (BESIDE, NEARLY))
    assert (beside.over, nearly.over) == ("alone", "room for all")
    assert 0 < beside.ratio < 1.5, "two streams share the one device"
    assert {what.partition(": ")[2] for what in rows if what.startswith("5")} == {
        what.partition(": ")[2] for what in rows if what.startswith("4")
    }


def test_a_memory_of_masked_weights_can_be_served_too(plain):
    made, _ = plain.memory(DGMW, 10)
    assert made.manifest.kind == "dgmw" and len(made.manifest.tasks) == 10


def test_stalled_readers_are_measured_while_a_task_is_learned(bench):
    rows = by_name(stalled.measure(replace(bench, seconds=5.0, clients=(40,))))
    assert rows["the slowest of them"].ratio > 0.3
    assert rows["memory of a stalled reader"].value < 8 and rows["memory of the server"].ratio < 1
    assert rows["36 readers beside 4 stalled ones"].ratio > 0.5  # how much exactly is for a machine without other work


def test_samples_and_learning_are_compared_with_what_each_has_alone(bench):
    rows = by_name(sharing.measure(replace(bench, seconds=1.0)))
    for what in ("a stream", "requests of 64, p50", "requests of 64, p99"):
        alone, beside = (rows[f"24-12-6, {what}, {when}"] for when in ("alone", "beside learning"))
        assert beside.ratio == pytest.approx(beside.value / alone.value)
    alone = rows["24-12-6, learning alone"]
    for beside in (rows["24-12-6, learning beside a stream"], rows["24-12-6, learning beside requests"]):
        assert beside.ratio == pytest.approx(beside.value / alone.value)
