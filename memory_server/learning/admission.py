"""Admission of raw data: a budget of bytes and of tasks that the server holds in memory at one time."""

import threading
import time
from collections.abc import Callable

from memory_server.errors import ClientLimit, ServerBusy, TaskTooLarge

Clock = Callable[[], float]
"""Seconds from any origin, never going back."""

_UNKNOWN_HOLD = 30.0
_SOONEST = 1.0


class IngestBudget:
    """What all unlearned tasks may hold together. Safe to call from any thread.

    Arguments:
        limit: bytes of raw data.
        max_queue: tasks that may be arriving, queued or learning at one time.
        share: of both that one client may hold.
        clock: the present time.
    """

    def __init__(self, limit: int, max_queue: int, share: float = 1.0, clock: Clock = time.monotonic) -> None:
        self.limit = limit
        self.max_queue = max_queue
        self._bytes_each = int(share * limit)
        self._tasks_each = max(1, int(share * max_queue))
        self._clock = clock
        self._guard = threading.Lock()
        self._held: list[Reservation] = []
        self._typical_hold = _UNKNOWN_HOLD

    @property
    def used(self) -> int:
        """Bytes that are reserved now."""
        with self._guard:
            return self._used()

    def reserve(self, client: str = "") -> "Reservation":
        """Admits one more task of a client, of which nothing has arrived yet.

        Raises:
            ServerBusy: the queue is full.
            ClientLimit: the client has its share of it.
        """
        with self._guard:
            if len(self._held) >= self.max_queue:
                wait = self._wait(0, self._held)
                raise ServerBusy(f"the queue is full: {self.max_queue} tasks are waiting or learning", wait)
            own = self._of(client)
            if len(own) >= self._tasks_each:
                raise ClientLimit(
                    f"{client} has {len(own)} tasks waiting or learning, the most for one client "
                    "(--client-ingest-share); wait for one, or cancel it",
                    self._wait(0, own),
                )
            reservation = Reservation(self, client, self._clock())
            self._held.append(reservation)
            return reservation

    def _busy(self, why: str) -> ServerBusy:
        with self._guard:
            return ServerBusy(why, self._wait(0, self._held))

    def _grow(self, reservation: "Reservation", nbytes: int) -> None:
        with self._guard:
            if reservation.nbytes + nbytes > self.limit:
                raise TaskTooLarge(
                    f"this task needs more than the {self.limit} bytes that the server holds of unlearned data; "
                    "split it into smaller tasks, or start the server with a larger --ingest-budget-bytes"
                )
            others = [other for other in self._held if other is not reservation]
            excess = self._used() + nbytes - self.limit
            if excess > 0:
                wait = self._wait(excess, others)
                raise ServerBusy(f"{self._used()} of {self.limit} bytes of unlearned data are in use", wait)
            self._check_share(reservation, nbytes)
            reservation.nbytes += nbytes

    def _check_share(self, reservation: "Reservation", nbytes: int) -> None:
        own = [other for other in self._of(reservation.client) if other is not reservation]
        if reservation.nbytes + nbytes > self._bytes_each:
            raise TaskTooLarge(
                f"this task needs more than the {self._bytes_each} bytes that one client may hold of unlearned data; "
                "split it into smaller tasks, or start the server with a larger --client-ingest-share"
            )
        excess = sum(other.nbytes for other in own) + reservation.nbytes + nbytes - self._bytes_each
        if excess > 0:
            raise ClientLimit(
                f"{reservation.client} would hold more than the {self._bytes_each} bytes of unlearned data that one "
                "client may (--client-ingest-share); wait for its other tasks, or cancel one",
                self._wait(excess, own),
            )

    def _of(self, client: str) -> "list[Reservation]":
        return [reservation for reservation in self._held if reservation.client == client]

    def _release(self, reservation: "Reservation") -> None:
        with self._guard:
            if reservation not in self._held:
                return
            self._held.remove(reservation)
            if reservation.until is not None:  # an upload that never became a task says nothing about tasks
                held = self._clock() - reservation.since
                self._typical_hold += 0.3 * (held - self._typical_hold)

    def _used(self) -> int:
        return sum(reservation.nbytes for reservation in self._held)

    def _wait(self, nbytes: int, holders: "list[Reservation]") -> float:
        """Seconds until these are likely to have freed a place and that many bytes."""
        held = [(self._seconds_left(other), other.nbytes) for other in holders]
        free, wait = 0, _SOONEST
        for seconds, size in sorted(held):
            free, wait = free + size, max(seconds, _SOONEST)
            if free >= nbytes:
                break
        return wait

    def _seconds_left(self, reservation: "Reservation") -> float:
        """Until it is likely to be released. One that is overdue for long is not likely to be released at once."""
        left = (reservation.until or reservation.since + self._typical_hold) - self._clock()
        return left if left > 0 else min(-left, self._typical_hold)


class Reservation:
    """One task's part of the budget; grows as its data arrives.

    Attributes:
        client: whose task it is.
        nbytes: how much it holds.
        since: when it was admitted.
        until: when it is expected to be released, None while unknown.
    """

    def __init__(self, budget: IngestBudget, client: str, since: float) -> None:
        self._budget = budget
        self.client = client
        self.since = since
        self.nbytes = 0
        self.until: float | None = None

    def grow(self, nbytes: int) -> None:
        """Takes more bytes, all or none.

        Raises:
            ServerBusy: others hold them now.
            ClientLimit: other tasks of this client do.
            TaskTooLarge: this task alone exceeds the budget.
        """
        self._budget._grow(self, nbytes)

    def expect(self, seconds: float) -> None:
        """Notes that it will be released in about that time, which is what a refused client is told to wait."""
        self.until = self._budget._clock() + seconds

    def turned_away(self, why: str) -> ServerBusy:
        """Gives everything back, and says when a task may be let in that cannot be now."""
        self.release()
        return self._budget._busy(why)

    def release(self) -> None:
        """Gives everything back; doing it again changes nothing."""
        self._budget._release(self)
