import threading

import pytest

from dgm_core.memory import Progress
from memory_server.learning import training
from memory_server.learning.frames import Frame
from memory_server.learning.training import SECONDS_BETWEEN_REPORTS, run, throttled


def test_progress_is_sent_at_each_change_of_phase_and_else_at_most_twice_a_second():
    now, sent = [0.0], []
    report = throttled(sent.append, clock=lambda: now[0])
    for step in range(100):
        now[0] = step * SECONDS_BETWEEN_REPORTS / 10
        report(Progress("generator" if step < 95 else "solver", step, 100, 0.5))
    steps = [(frame.body["phase"], frame.body["step"]) for frame in sent]
    assert steps == [*(("generator", step) for step in range(0, 95, 10)), ("solver", 95)]


def test_what_is_raised_while_an_error_is_sent_does_not_take_the_error_along(monkeypatch):
    def broken(_):
        raise BrokenPipeError

    monkeypatch.setattr(training, "beat_while_computing", lambda _: None)  # this process computes on
    with pytest.raises(BrokenPipeError) as raised:
        run(Frame("job", {}), broken, threading.Event())
    assert raised.value.__context__ is None, "a traceback on standard error would show its message"


def test_a_job_that_makes_no_sense_is_answered_with_an_error_instead_of_silence():
    sent = []
    run(Frame("job", {}), sent.append, threading.Event())
    assert [(frame.kind, frame.body["kind"]) for frame in sent] == [("error", "KeyError")]
