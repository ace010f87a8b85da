"""How a worker shows that it is alive: whatever it computes, a network is run or an optimiser takes a step.

Reports of progress come with the steps of training alone; restoring a memory, choosing where a style starts, measuring
norms and sampling replay may take minutes between two of them. What is stuck does neither.
"""

import time
from collections.abc import Callable

from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

SECONDS_BETWEEN_SIGNS = 2.0


class Pulse:
    """Gives a sign of life whenever there is one to give, but not more often than the server needs.

    Arguments:
        send: tells the server.
        clock: seconds.
    """

    def __init__(self, send: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._send, self._clock = send, clock
        self._due = 0.0

    def __call__(self) -> None:
        """Something was computed."""
        if (now := self._clock()) >= self._due:
            self._due = now + SECONDS_BETWEEN_SIGNS
            self._send()


def beat_while_computing(send: Callable[[], None]) -> None:
    """Has every network and every optimiser of this process keep up its pulse."""
    pulse = Pulse(send)
    register_module_forward_hook(lambda *_: pulse())
    register_optimizer_step_post_hook(lambda *_: pulse())
