"""How learning and sampling share a device that neither may have for itself.

Between any two steps of its optimiser a worker looks at one byte that the server sets while rows are waited for. As
long as it is set the worker pauses, but in proportion to the step before: so learning keeps its share of a device that
both want all the time, and all of it otherwise. Where the kernel shares the processors niceness does the same, and the
share at the gate is 1.
"""

import mmap
import os
import time
from collections.abc import Callable

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

_LOOK_EVERY = 0.0005


class Gate:
    """The server's side: one byte of anonymous memory that its workers inherit.

    Arguments:
        share: of the device that learning keeps, above 0 and at most 1.

    Attributes:
        fd: of the memory.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self.fd = os.memfd_create("gate")
        os.ftruncate(self.fd, 1)
        self._byte = mmap.mmap(self.fd, 1)

    def waited_for(self, rows: bool) -> None:
        """Whether rows are waited for, from now on. From any thread."""
        self._byte[0] = rows

    def close(self) -> None:
        """Lets go of the memory; workers that are at it find what it said last."""
        self._byte.close()
        os.close(self.fd)


class Turnstile:
    """The worker's side, called between steps.

    Arguments:
        fd: the inherited memory of a `Gate`.
        share: as the gate says.
        finish: waits until the device has done what was asked of it: only then is it free for others.
        clock: seconds.
        sleep: for so many seconds.
    """

    def __init__(
        self,
        fd: int,
        share: float,
        finish: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._byte = mmap.mmap(fd, 1)
        self._idle = (1 - share) / share
        self._finish, self._clock, self._sleep = finish, clock, sleep
        self._resumed = clock()

    def __call__(self) -> None:
        """Passes at once while no rows are waited for; else pauses for at most what the share leaves to others."""
        if self._byte[0]:
            self._finish()
            stepped = self._clock()
            end = stepped + (stepped - self._resumed) * self._idle
            while self._byte[0] and self._clock() < end:
                self._sleep(_LOOK_EVERY)
        self._resumed = self._clock()


def pause_between_steps(fd: int, share: float, device: torch.device) -> None:
    """Has every optimiser of this process pass a turnstile after each of its steps."""
    finish = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    turnstile = Turnstile(fd, share, finish)
    register_optimizer_step_post_hook(lambda *_: turnstile())
