import subprocess
import sys

import pytest

from memory_server.learning.gate import Gate, Turnstile


class Time:
    """A clock that moves when somebody sleeps, or works."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def pass_by(self, seconds):
        self.now += seconds


@pytest.fixture
def time():
    return Time()


def turnstile(gate, time, finish=lambda: None):
    return Turnstile(gate.fd, gate.share, finish, time, time.pass_by)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_learning_keeps_its_share_of_a_device_that_is_always_wanted(share, time):
    gate = Gate(share)
    gate.waited_for(True)
    passing = turnstile(gate, time)
    for _ in range(100):
        time.pass_by(0.1)
        passing()
    assert 10 / time.now == pytest.approx(share, rel=0.02)


def test_nobody_pauses_while_no_rows_are_waited_for(time):
    gate = Gate(0.5)
    passing = turnstile(gate, time, finish=lambda: pytest.fail("there is no reason to wait for the device"))
    time.pass_by(10)
    passing()
    gate.waited_for(True)
    gate.waited_for(False)
    passing()
    assert time.now == 10


def test_a_pause_ends_with_its_reason(time):
    gate = Gate(0.5)
    gate.waited_for(True)

    def sleep(seconds):
        time.pass_by(seconds)
        if time.now > 12:
            gate.waited_for(False)

    passing = Turnstile(gate.fd, 0.5, lambda: None, time, sleep)
    time.pass_by(10)
    passing()
    assert time.now == pytest.approx(12, abs=0.01)


def test_long_undisturbed_learning_earns_no_long_pause(time):
    gate = Gate(0.5)
    passing = turnstile(gate, time)
    for _ in range(1000):
        time.pass_by(0.1)
        passing()
    gate.waited_for(True)
    time.pass_by(0.1)
    passing()
    assert time.now == pytest.approx(100.1 + 0.1, abs=0.01)


def test_a_step_counts_until_the_device_has_done_it(time):
    gate = Gate(0.5)
    gate.waited_for(True)
    passing = turnstile(gate, time, finish=lambda: time.pass_by(3))
    time.pass_by(1)
    passing()
    assert time.now == pytest.approx(8, abs=0.01)


def test_who_never_pauses_does_not_pause(time):
    gate = Gate(1)
    gate.waited_for(True)
    passing = turnstile(gate, time)
    time.pass_by(1)
    passing()
    assert time.now == 1


def test_every_optimiser_of_a_process_passes_it(tmp_path):
    code = """
import time, torch
from memory_server.learning.gate import Gate, pause_between_steps
gate = Gate(0.25)
pause_between_steps(gate.fd, gate.share, torch.device("cpu"))
gate.waited_for(True)
weight = torch.nn.Parameter(torch.zeros(1))
weight.grad = torch.zeros(1)
for optimiser in (torch.optim.SGD([weight], 0.1), torch.optim.Adam([weight])):
    optimiser.step()
    time.sleep(0.2)
    started = time.monotonic()
    optimiser.step()
    print(time.monotonic() - started)
"""
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert all(float(pause) > 0.5 for pause in output.split())
    assert len(output.split()) == 2
