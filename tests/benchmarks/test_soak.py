import json
from statistics import median

import psutil
import pytest
import soak
from harness.processes import memory_server
from soak import Drift

POOLED = 10
"""Files that a server opens as it needs them and keeps: four more connections to its catalog, each of two files."""


def test_what_grows_before_the_warm_up_is_over_is_no_drift():
    assert Drift.of([100.0, 300.0, *[400.0] * 7], median).flat


@pytest.mark.parametrize("step", [4.0, -4.0])
def test_what_goes_on_growing_or_shrinking_is_one(step):
    assert not Drift.of([400 + step * second for second in range(40)], median).flat


def test_a_file_that_is_left_open_is_one_however_many_connections_come_and_go():
    assert Drift.of([20.0, 25.0, 22.0, 20.0] * 9, min).flat
    assert not Drift.of([20.0, 25.0] * 9 + [21.0, 25.0] * 9, min).flat


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("minutes", "tasks", "tolerance"),
    [
        # In so short a time each thread may come round once, and a server still warms up.
        pytest.param(0.07, 1, 1.0, id="four seconds"),
        pytest.param(5, soak.MOST_TASKS, soak.TOLERANCE, id="five minutes", marks=pytest.mark.slow),
    ],
)
def test_a_server_that_learns_forgets_samples_and_is_connected_to_anew_stays_flat(
    minutes, tasks, tolerance, tmp_path, monkeypatch, eventually
):
    monkeypatch.setattr(soak, "MOST_TASKS", tasks)
    monkeypatch.setattr(soak, "TOLERANCE", tolerance)
    out = tmp_path / "soak.jsonl"
    with memory_server(tmp_path / "data", learners=1) as server:
        process = psutil.Process(server.pid)
        before = process.num_fds()
        assert soak.soaked(server, minutes, out)
        eventually(lambda: process.num_fds() <= before + POOLED)
    done = json.loads(out.read_text())["done"]
    assert set(done) == {"learned", "forgotten", "batches", "connections"}
