"""What the queue shares with those who see to one sort of its work: lessons, sleeps, retrainings of solvers."""

from collections.abc import Callable
from dataclasses import dataclass

from memory_server.learning.audience import Audience
from memory_server.learning.executor import Executor
from memory_server.learning.observer import Observer
from memory_server.learning.schedule import Schedule
from memory_server.learning.work import Work
from memory_server.store.datadir import DataDir


@dataclass(frozen=True)
class Setting:
    """What all work is a part of.

    Arguments:
        store: where memories are kept.
        executor: who trains.
        audience: told of each revision that comes of it.
        schedule: where work waits for its turn.
        progressed: called when some of it has come further.
        observer: told how it goes.
    """

    store: DataDir
    executor: Executor
    audience: Audience
    schedule: Schedule[Work]
    progressed: Callable[[], None]
    observer: Observer
