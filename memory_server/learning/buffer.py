"""Where raw data waits to be learned: anonymous memory that no file names and that dies with the process."""

import os
import threading
from contextlib import ExitStack
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dgm_core.manifest import DataSpec
from memory_server.learning.admission import Reservation

_ZEROS = bytes(1 << 20)


class IngestBuffer:
    """The rows of one task in two memfds, one of x and one of y. Safe to call from any thread.

    Nothing else holds the data: `wipe` overwrites it with zeros, and so does leaving the context.

    Arguments:
        spec: of one example; x is held as uint8 for images and as float32 for vectors.
        reservation: the part of the ingest budget that grows with the data and is released when it is wiped.

    Attributes:
        count: rows so far.
        x_fd, y_fd: memfds of x, row-major, and of y, int32.

    Raises:
        ServerBusy: the system gives no memory; the reservation is released.
    """

    def __init__(self, spec: DataSpec, reservation: Reservation) -> None:
        self.spec = spec
        self.reservation = reservation
        self.count = 0
        try:
            self.x_fd, self.y_fd = _anonymous("x", "y")
        except OSError as error:
            raise reservation.turned_away(f"the system has no place for more data: {error.strerror}") from error
        self.wiped = False
        self._guard = threading.Lock()

    def append(self, x: bytes | memoryview, y: NDArray[np.int32]) -> None:
        """Adds rows.

        Arguments:
            x: `len(y)` rows of the shape and dtype of `spec`, row-major.
            y: int32 (rows,).

        Raises:
            ValueError: x is not of as many rows as y, or the buffer was wiped.
            ServerBusy, ClientLimit, TaskTooLarge: the budget does not admit them; nothing is added.
        """
        view = memoryview(x)
        if y.dtype != np.int32 or view.nbytes != len(y) * self.spec.nbytes:
            raise ValueError(
                f"{view.nbytes} bytes of x are not {len(y)} rows of {self.spec.nbytes} bytes with int32 labels"
            )
        if len(y) == 0:
            return
        # The guard keeps a late append from writing into a descriptor that was closed and given to someone else.
        with self._guard:
            if self.wiped:
                raise ValueError("this buffer was wiped")
            self.reservation.grow(view.nbytes + y.nbytes)
            _write(self.x_fd, view.cast("B"))
            _write(self.y_fd, np.ascontiguousarray(y).data.cast("B"))
            self.count += len(y)

    def wipe(self) -> None:
        """Overwrites everything with zeros and releases it; doing it again changes nothing."""
        with self._guard:
            if self.wiped:
                return
            self.wiped = True
            for descriptor in (self.x_fd, self.y_fd):
                _erase(descriptor)
        self.reservation.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()


def _anonymous(*names: str) -> list[int]:
    """A memfd for each name, all or none."""
    with ExitStack() as made:
        descriptors = []
        for name in names:
            descriptors.append(os.memfd_create(name))
            made.callback(os.close, descriptors[-1])
        made.pop_all()
        return descriptors


def _write(descriptor: int, view: memoryview) -> None:
    while view:
        view = view[os.write(descriptor, view) :]


def _erase(descriptor: int) -> None:
    size, offset = os.fstat(descriptor).st_size, 0
    while offset < size:
        offset += os.pwrite(descriptor, _ZEROS[: size - offset], offset)
    os.ftruncate(descriptor, 0)
    os.close(descriptor)
