import pytest

from memory_server import settings
from memory_server.settings import Settings


@pytest.mark.parametrize(
    ("cores", "cuda", "workers", "trainers"),
    [(1, False, 1, 1), (2, False, 2, 1), (5, False, 2, 2), (64, False, 2, 8), (8, True, 1, 7), (64, True, 1, 8)],
)
def test_those_that_learn_share_all_cores_but_one(monkeypatch, cores, cuda, workers, trainers):
    monkeypatch.setattr(settings, "_cores", lambda: cores)
    chosen = Settings()
    assert (chosen.workers(cuda), chosen.trainers(cuda)) == (workers, trainers)


def test_an_operator_may_choose_both(monkeypatch):
    monkeypatch.setattr(settings, "_cores", lambda: 8)
    assert Settings(learners=1).trainers(cuda=False) == 7
    assert Settings(learners=3).trainers(cuda=False) == 2
    assert Settings(learners=3, training_threads=5).trainers(cuda=False) == 5
