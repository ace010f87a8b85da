"""How a worker puts down its training, sealed, and goes on from what an earlier one put down."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from dgm_core.blobs import pack, unpack
from dgm_core.checkpoints import NONE, Checkpoints, State
from dgm_core.errors import Cancelled
from memory_server.store.checkpoints import Slot


class SealedCheckpoints:
    """The checkpoints of one attempt at a task.

    Arguments:
        slot: where they are.
        ending: set once the server wants the state put down and no more.
        clock: seconds.
    """

    def __init__(self, slot: Slot, ending: threading.Event, clock: Callable[[], float] = time.monotonic) -> None:
        self._slot, self._ending, self._clock = slot, ending, clock
        self._next = clock() + slot.seconds

    def found(self) -> State | None:
        """See `Checkpoints.found`."""
        with suppress(OSError):
            if (content := self._slot.read()) is not None:
                return State(*unpack(content))
        return None

    def due(self) -> bool:
        """See `Checkpoints.due`."""
        return self._ending.is_set() or self._clock() >= self._next

    def keep(self, state: State) -> None:
        """See `Checkpoints.keep`. A disk that is full costs the checkpoint, not the task."""
        tensors = {name: tensor.detach().cpu().clone() for name, tensor in state.tensors.items()}
        with suppress(OSError):
            self._slot.write(pack(tensors, state.values))
        self._next = self._clock() + self._slot.seconds
        if self._ending.is_set():
            raise Cancelled


def checkpoints_of(slot: Slot | None, ending: threading.Event) -> Checkpoints:
    """Those of a job, if it is to have any."""
    return NONE if slot is None else SealedCheckpoints(slot, ending)
