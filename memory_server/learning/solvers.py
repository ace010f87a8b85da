"""The solvers that memories lack: their retraining, and when each should be there.

A solver is dropped when a task was forgotten, for it replayed that task; and when tasks were committed that had learned
side by side, for none of them had replayed the others.
"""

from dgm_core.manifest import Manifest
from memory_server.errors import NoSolver
from memory_server.learning.messages import Renewal
from memory_server.learning.renewals import Renewals
from memory_server.learning.setting import Setting
from memory_server.learning.work import Retraining
from memory_server.store.records import TaskState

_A_MOMENT = 0.5


class Solvers(Renewals[Retraining]):
    """Retrainings of solvers."""

    how = Renewal.SOLVER

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._failed: set[str] = set()  # memories whose solver could not be trained anew

    def due(self, memory: str) -> float:
        """Seconds until the solver of a memory that lacks one should be there. Raises NoSolver if none will come."""
        if memory in self._failed:
            raise NoSolver(memory)
        retraining = self._works.get(memory)
        return _A_MOMENT if retraining is None else max(_A_MOMENT, retraining.expected)

    def restore_next(self, memory: str) -> None:
        """Has a solver trained before the tasks of its memory: it takes a fraction of their time."""
        if (work := self._new(memory)) is not None:
            self._setting.schedule.add_first(memory, work)

    def settle(self, memory: str, committed: Manifest) -> None:
        """After the commit of a task: has the solver trained that is then lacking, behind the tasks that wait now.

        Each of those would put it out of date again, and the last of them brings its own if it learns alone.
        """
        if committed.complete:
            self._failed.discard(memory)
        elif (work := self._new(memory)) is not None:
            self._setting.schedule.add(memory, work)

    async def drop(self, memory: str) -> None:
        """See `Renewals.drop`."""
        await self.stop(memory)
        self._failed.discard(memory)

    def _needed(self, manifest: Manifest) -> bool:
        """See `Renewals._needed`."""
        return not manifest.complete

    def _over(self, work: Retraining, ended: TaskState, error: str) -> None:  # noqa: ARG002 - the log has it
        """See `Renewals._over`."""
        if ended is TaskState.FAILED:
            self._failed.add(work.memory)

    def _new(self, memory: str) -> Retraining | None:
        """A retraining to be scheduled, unless there is one."""
        if memory in self._works:
            return None
        self._failed.discard(memory)
        self._works[memory] = Retraining(memory)
        return self._works[memory]
