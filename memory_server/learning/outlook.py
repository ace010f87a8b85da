"""What those who wait are told: behind what, and for how long."""

from collections.abc import Sequence
from heapq import heappop, heappush

from memory_server.learning.work import Work


def explain(running: Sequence[Work], waiting: Sequence[Work], workers: int) -> None:
    """Tells each piece of work that waits which one must end before it can start; the last of them, if several must.

    Arguments:
        running: in the order in which they started.
        waiting: in the order in which they are to start.
        workers: how many may run at one time.
    """
    known = [*running, *waiting]
    for position, work in enumerate(waiting, start=len(running)):
        in_its_way = [ahead for ahead in range(position) if work.excludes(known[ahead])]
        last = max([position - workers, *in_its_way])
        work.queued_behind(known[last].title if last >= 0 else "", position - len(running) + 1)


def forecast(running: Sequence[Work], waiting: Sequence[Work], workers: int, typical: float) -> None:
    """Tells each piece of work when it should start and have ended: how long a refused client is told to wait.

    Arguments:
        running, waiting, workers: as for `explain`.
        typical: seconds that a task typically takes.
    """
    free = [0.0] * workers  # when each worker will be
    ends: list[tuple[Work, float]] = []
    for work in [*running, *waiting]:
        start = max([heappop(free), *(end for other, end in ends if work.excludes(other))])
        end = start + work.seconds_left(typical)
        heappush(free, end)
        ends.append((work, end))
        work.expect(start, end)
