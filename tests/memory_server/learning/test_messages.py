from dataclasses import replace

import pytest

from dgm_core.errors import CannotLearn, CannotSleep, QualityTooLow, TrainingDiverged
from dgm_core.manifest import ExpertEntry, Learned, Shared, TaskEntry
from dgm_core.memory import Progress, Terms
from memory_server.learning.errors import LearningFailed, OutOfMemory, WorkerDied, WorkerSilent, logged
from memory_server.learning.messages import (
    Inherited,
    Job,
    Place,
    Renewal,
    error_frame,
    job_frame,
    learned_frame,
    progress_frame,
    read_error,
    read_job,
    read_learned,
    read_progress,
    read_renewed,
    read_renewing,
    renewed_frame,
    renewing_frame,
)


def test_a_job_arrives_as_it_was_sent(manifest):
    job = Job(manifest, "t0", ("cat", "dog"), 40, Terms(steps=10, min_quality=0.5, erasable=True))
    place, data = Place("/data/blobs", "cpu", 1, 7, 0.5), Inherited(5, 6)
    assert read_job(job_frame(job, place, data)) == (job, place, data)


@pytest.mark.parametrize("how", Renewal)
def test_a_memory_to_renew_and_what_was_made_anew_arrive_as_they_were_sent(manifest, how):
    place = Place("/data/blobs", "cpu", 1, 7, 0.5)
    frame = renewing_frame(how, manifest, place)
    assert (Renewal(frame.kind), read_renewing(frame)) == (how, (manifest, place))
    experts = (ExpertEntry("e" * 64, ("cat",), (5,)),)
    revised = tuple(TaskEntry(f"t{i}", "a" * 64, experts, None, 10, 1.5, consolidated=True) for i in range(2))
    blobs = {"a" * 64: b"weights", "b" * 64: b""}
    for shared in (Shared({"solver": "b" * 64}, blobs), Shared({"solver": "b" * 64}, blobs, revised)):
        assert read_renewed(renewed_frame(shared)) == shared


@pytest.mark.parametrize("seconds_left", [None, 3.5])
def test_progress_arrives_as_it_was_sent(seconds_left):
    progress = Progress("solver", 3, 10, 0.9, seconds_left, {"loss": 0.25})
    assert read_progress(progress_frame(progress)) == progress


@pytest.mark.parametrize("retrained", [False, True])
@pytest.mark.parametrize("classes", [(3, 1), ("cat", "dog")])
def test_what_was_learned_arrives_as_it_was_sent(manifest, classes, retrained):
    experts = (ExpertEntry("e" * 64, classes, (5, 6)),)
    entry = TaskEntry("t1", "a" * 64, experts, 0.75, 10, 1.5, True, ("t0",), {"used": [1, 2]})
    revised = (replace(entry, task="t0", consolidated=True, reuses=()),) if retrained else ()
    learned = Learned(entry, {"solver": "b" * 64}, {"a" * 64: b"weights", "b" * 64: b""}, 0, revised)
    later = manifest.commit(Learned(TaskEntry("t0", "c" * 64, (), 1.0, 1, 1.0), {"other": "d" * 64}, {}, 0))
    assert read_learned(learned_frame(later, learned)) == learned


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (QualityTooLow("0.2 < 0.5"), QualityTooLow),
        (TrainingDiverged("loss is nan"), TrainingDiverged),
        (CannotSleep("nothing to consolidate"), CannotSleep),
        (MemoryError(), OutOfMemory),
        (KeyError("weights"), LearningFailed),
    ],
)
def test_an_error_arrives_as_its_kind(error, kind):
    arrived = read_error(error_frame(error))
    assert type(arrived) is kind
    assert kind in (OutOfMemory, LearningFailed) or str(arrived) == str(error)


def test_of_an_unforeseen_error_its_class_and_place_arrive_and_not_its_words():
    def fit(x):
        raise ValueError(f"{x} cannot be fitted")

    with pytest.raises(ValueError, match="fitted") as raised:
        fit(1 / 8)
    failed = read_error(error_frame(raised.value))
    assert isinstance(failed, LearningFailed)
    assert failed.kind == "ValueError" and "in fit" in failed.frames[-1] and __file__ in failed.frames[-1]
    assert "0.125" not in str(failed) + str(logged(failed)) + str(logged(raised.value))
    assert "0.2 < 0.5" in str(logged(TrainingDiverged("0.2 < 0.5")))


def test_data_that_does_not_suit_names_its_field():
    arrived = read_error(error_frame(CannotLearn("y", "one class is missing")))
    assert isinstance(arrived, CannotLearn)
    assert (arrived.field, str(arrived)) == ("y", "one class is missing")


@pytest.mark.parametrize(
    ("status", "said"), [(-9, "SIGKILL.*memory"), (-11, "SIGSEGV"), (3, "exit status 3"), (-40, "signal 40")]
)
def test_a_dead_worker_is_told_by_its_signal_or_exit_status(status, said):
    with pytest.raises(WorkerDied, match=said):
        raise WorkerDied(status)


@pytest.mark.parametrize("error", [WorkerDied(-9), WorkerSilent(300)])
def test_what_may_have_left_a_checkpoint_does_not_say_that_nothing_was_kept(error):
    assert str(error).endswith("the memory is as it was, send the task again")
