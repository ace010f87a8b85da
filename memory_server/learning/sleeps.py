"""Sleep: memories that hold tasks apart consolidate them  [DGDMN sec. 3.2].

A memory sleeps when its kind says that it holds enough, before its next task; when somebody asks for it; or while the
server has nothing to learn. A sleep that fails takes nothing away and is in nobody's way: learning goes on, and what is
drowsy then is tried again after the next commit.
"""

from collections.abc import Mapping

from dgm_core.errors import CannotSleep
from dgm_core.manifest import Manifest
from dgm_core.memories import KINDS, kind_of
from memory_server.kinds import kind_of_memory
from memory_server.learning.messages import Renewal
from memory_server.learning.renewals import Renewals
from memory_server.learning.setting import Setting
from memory_server.learning.status import LiveStatus, SleepState, SleepStatus
from memory_server.learning.work import Sleep
from memory_server.store.records import TaskState


def sleepers() -> tuple[str, ...]:
    """The kinds that sleep."""
    return tuple(name for name, kind in KINDS.items() if kind.sleeps)


class Sleeps(Renewals[Sleep]):
    """Sleeps of memories."""

    how = Renewal.SLEEP

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._failed: dict[str, int] = {}  # the revisions of memories with which they slept in vain

    def settle(self, memory: str, newest: Manifest) -> None:
        """Has a memory sleep before its next task, if it is drowsy."""
        if kind_of(newest.kind).drowsy(newest):
            waiting = self._works.get(memory)
            if waiting is not None:
                self._setting.schedule.remove(memory, waiting)
            self._next(waiting or Sleep(memory))

    def check(self, memory: str, newest: Manifest, task: str | None = None) -> None:
        """Raises CannotSleep if there is nothing to consolidate, or not that task; MissingKind if that is not known."""
        awake = [entry.task for entry in kind_of_memory(memory, newest).awake(newest)]
        if not awake or task not in (None, *awake):
            what = "nothing" if task is None else f"no task {task!r}"
            raise CannotSleep(
                f"memory {memory!r}, of kind {newest.kind}, has {what} to consolidate: those of kind "
                f"{' or '.join(sleepers())} sleep, once they have learned something new that need not stay erasable"
            )

    def ask(self, memory: str, newest: Manifest) -> LiveStatus[SleepStatus]:
        """Has a memory sleep behind the tasks of it that wait, or joins the sleep that is to come or goes on.

        Raises:
            CannotSleep: there is nothing to consolidate.
            MissingKind: there is no telling.
        """
        if memory not in self._works:
            self.check(memory, newest)
            self._works[memory] = Sleep(memory)
            self._setting.schedule.add(memory, self._works[memory])
        return self._works[memory].live

    def use_idleness(self, memories: Mapping[str, Manifest]) -> None:
        """Has the first of these memories sleep that can, if none does; not one that has failed to as it is now."""
        for memory, newest in memories.items():
            if not self._works and self._needed(newest) and self._failed.get(memory) != newest.revision:
                self.ask(memory, newest)

    def again(self, stopped: Sleep | None) -> None:
        """Has a sleep begin anew that was stopped, if one was, for those who wait for its end."""
        if stopped is not None and not stopped.live.value.final:
            stopped.live.set(SleepStatus())
            self._next(Sleep(stopped.memory, stopped.live))

    async def drop(self, memory: str) -> None:
        """See `Renewals.drop`."""
        stopped = await self.stop(memory)
        if stopped is not None and not stopped.live.value.final:
            stopped.live.set(SleepStatus(SleepState.STOPPED))
        self._failed.pop(memory, None)

    def _next(self, work: Sleep) -> None:
        self._works[work.memory] = work
        self._setting.schedule.add_first(work.memory, work)

    def _needed(self, manifest: Manifest) -> bool:
        """See `Renewals._needed`."""
        return bool(kind_of(manifest.kind).awake(manifest))

    def _over(self, work: Sleep, ended: TaskState, error: str) -> None:
        """See `Renewals._over`."""
        if ended is TaskState.FAILED:
            self._failed[work.memory] = work.revision
            work.live.set(SleepStatus(SleepState.FAILED, error=error))
        elif ended is TaskState.LEARNED:
            self._failed.pop(work.memory, None)
            work.live.set(SleepStatus(SleepState.ENDED))
