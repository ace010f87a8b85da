import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import memory_api.v1
import pytest
from memory_client import TaskInterrupted
from memory_client.errors import BY_REASON
from torch import nn, optim, zeros

from memory_server.learning import pulse
from memory_server.learning.endings import GOES_ON, REASONS
from memory_server.learning.errors import TaskTimedOut, WorkerSilent, WorkerTooLarge
from memory_server.learning.watchdog import Bounds, Watchdog, kills_for_memory, resident_bytes


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def looks_until(dog: Watchdog, clock: Clock, second: float, *, heard: bool = False) -> None:
    while clock.now < second:
        clock.now += 1.0
        if heard:
            dog.heard()
        dog.check()


def test_silence_is_counted_from_the_last_sign_of_life(clock):
    dog = Watchdog(os.getpid(), Bounds(silence_seconds=30), clock)
    looks_until(dog, clock, 100, heard=True)
    looks_until(dog, clock, 130)
    with pytest.raises(WorkerSilent, match="30 s"):
        looks_until(dog, clock, 131)


def test_a_server_that_was_stopped_does_not_take_its_own_silence_for_the_workers(clock):
    dog = Watchdog(os.getpid(), Bounds(silence_seconds=30), clock)
    clock.now = 1000.0
    dog.check()
    with pytest.raises(WorkerSilent):
        looks_until(dog, clock, 1031)


def test_a_task_has_its_time_and_no_more_however_alive_it_is(clock):
    dog = Watchdog(os.getpid(), Bounds(seconds=60), clock)
    looks_until(dog, clock, 60, heard=True)
    with pytest.raises(TaskTimedOut, match="--task-seconds-limit"):
        looks_until(dog, clock, 61, heard=True)


def test_what_is_resident_is_bounded(clock):
    Watchdog(os.getpid(), Bounds(memory_bytes=1 << 40), clock).check()
    with pytest.raises(WorkerTooLarge, match="--worker-memory-bytes"):
        Watchdog(os.getpid(), Bounds(memory_bytes=1 << 20), clock).check()


def test_memory_that_is_filled_is_resident_and_that_of_a_process_that_is_gone_is_not():
    before = resident_bytes(os.getpid())
    filled = b"\1" * (64 << 20)
    assert resident_bytes(os.getpid()) - before > len(filled) * 0.9
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert resident_bytes(gone.pid) == 0


def test_the_kernel_says_how_many_processes_it_killed():
    assert f"oom_kill {kills_for_memory()}\n" in Path("/proc/vmstat").read_text()


async def test_an_answer_ends_the_watch_and_so_does_its_cancellation():
    dog = Watchdog(os.getpid(), Bounds())
    assert await dog.guard(asyncio.sleep(0, "answer")) == "answer"
    following = asyncio.create_task(asyncio.sleep(100))
    guarding = asyncio.create_task(dog.guard(following))
    await asyncio.sleep(0)
    guarding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await guarding
    assert following.cancelled()


def test_every_computation_is_a_sign_of_life(monkeypatch):
    hooks, signs = [], []
    run, step = pulse.register_module_forward_hook, pulse.register_optimizer_step_post_hook
    monkeypatch.setattr(pulse, "register_module_forward_hook", lambda hook: hooks.append(run(hook)))
    monkeypatch.setattr(pulse, "register_optimizer_step_post_hook", lambda hook: hooks.append(step(hook)))
    monkeypatch.setattr(pulse, "SECONDS_BETWEEN_SIGNS", 0.0)
    pulse.beat_while_computing(lambda: signs.append(1))
    try:
        network = nn.Linear(2, 2)
        network(zeros(1, 2))
        assert len(signs) == 1
        optim.SGD(network.parameters()).step()
        assert len(signs) == 2
    finally:
        for hook in hooks:
            hook.remove()


def test_signs_of_life_are_given_sparingly(clock):
    signs = []
    beat = pulse.Pulse(lambda: signs.append(clock.now), clock)
    for tenths in range(100):
        clock.now = tenths / 10
        beat()
    assert signs == [0.0, 2.0, 4.0, 6.0, 8.0]


def test_every_reason_of_a_failure_is_in_the_reference_of_the_wire():
    proto = (Path(memory_api.v1.__path__[0]) / "memory.proto").read_text()
    named = re.search(r"the machine-readable why.*string error_reason", proto, re.DOTALL)
    assert set(REASONS.values()) == set(re.findall(r"//   ([A-Z_]+)", named[0]))


def test_what_can_go_on_from_a_checkpoint_is_what_the_client_sends_again():
    assert {reason for reason, error in BY_REASON.items() if issubclass(error, TaskInterrupted)} == GOES_ON
