import stat
from contextlib import closing
from dataclasses import replace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dgm_core.memory import Progress
from memory_server.learning.messages import Renewal
from memory_server.store.records import TaskState
from memory_server.watching.curves import Curves
from tests.memory_server.watching.test_activity import at


@pytest.fixture
def curves(tmp_path):
    with closing(Curves(tmp_path / "curves")) as curves:
        yield curves


def drawn(path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> (step, value) of each point of a run."""
    events = EventAccumulator(str(path)).Reload()
    tags = events.Tags()
    assert not tags["images"] and not tags["histograms"]
    points = {tag: events.Tensors(tag) for tag in tags["tensors"]}
    return {tag: [(one.step, round(one.tensor_proto.float_val[0], 3)) for one in points[tag]] for tag in points}


def test_each_task_has_a_run_of_its_own_with_what_was_reported_by_step(curves, tmp_path):
    for step in (0, 10, 10, 20):  # a report that is repeated is one point
        curves.changed(at(TaskState.LEARNING, step=step))
    curves.changed(at(TaskState.LEARNING, "t1", step=5))
    learned = at(TaskState.LEARNED)
    curves.changed(replace(learned, record=replace(learned.record, quality=0.9, steps=20)))
    assert drawn(tmp_path / "curves/digits/t0") == {
        "generator/critic_loss": [(0, 0.5), (10, 0.5), (20, 0.5)],
        "generator/fraction": [(0, 0.0), (10, 0.1), (20, 0.2)],
        "quality": [(20, 0.9)],
    }
    curves.close()
    assert drawn(tmp_path / "curves/digits/t1")["generator/fraction"] == [(5, 0.05)]


@pytest.mark.parametrize(("how", "run"), [(Renewal.SOLVER, "_solver"), (Renewal.SLEEP, "_sleep")])
def test_retrainings_and_sleeps_are_runs_of_their_memory(curves, tmp_path, how, run):
    curves.renewing(how, "digits", None)
    curves.renewing(how, "digits", Progress("solver", 3, 100, 0.03))
    curves.renewed(how, "digits", TaskState.LEARNED, 0)
    assert drawn(tmp_path / "curves/digits" / run) == {"solver/fraction": [(3, 0.03)]}


@pytest.mark.parametrize("evil", ["../../escaped", "/escaped", "..", "a/../../escaped", "_solver"])
def test_no_name_leads_out_of_the_directory_or_into_another_run(curves, tmp_path, evil):
    curves.changed(at(TaskState.LEARNING, evil, step=1))
    curves.close()
    (run,) = (tmp_path / "curves/digits").iterdir()
    assert run.name != "_solver" and [path.name for path in tmp_path.iterdir()] == ["curves"]


def test_others_cannot_read_the_directory(curves, tmp_path):
    assert stat.S_IMODE((tmp_path / "curves").stat().st_mode) == 0o700
    (tmp_path / "curves").chmod(0o755)
    with closing(Curves(tmp_path / "curves")):
        assert stat.S_IMODE((tmp_path / "curves").stat().st_mode) == 0o700
