from statistics import median

import pytest
import soak
from harness.processes import memory_server
from soak import Drift


def test_what_grows_before_the_warm_up_is_over_is_no_drift():
    assert Drift.of([100.0, 300.0, *[400.0] * 7], median).flat


@pytest.mark.parametrize("step", [4.0, -4.0])
def test_what_goes_on_growing_or_shrinking_is_one(step):
    assert not Drift.of([400 + step * second for second in range(40)], median).flat


def test_a_file_that_is_left_open_is_one_however_many_connections_come_and_go():
    assert Drift.of([20.0, 25.0, 22.0, 20.0] * 9, min).flat
    assert not Drift.of([20.0, 25.0] * 9 + [21.0, 25.0] * 9, min).flat


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_memory_and_open_files_stay_flat_for_five_minutes(tmp_path):
    with memory_server(tmp_path / "data", learners=1) as server:
        assert soak.soaked(server, 5, tmp_path / "soak.jsonl")
