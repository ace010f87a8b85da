"""Who is told of what becomes of memories."""

from typing import Protocol

import structlog

from dgm_core.manifest import Manifest
from memory_server.store.records import Deleted, Forgotten, Restored


class Audience(Protocol):
    """Who must hear of every change in what a memory holds; called on the event loop."""

    def committed(self, memory: str, manifest: Manifest) -> None:
        """There is a new revision; it is told before its task is seen as LEARNED.

        Of two tasks that were committed at almost one time, the later revision may be told first.
        """

    async def forgotten(self, memory: str, forgotten: Forgotten) -> None:
        """A task was forgotten, or a generator retrained; nothing of what was may be kept any longer."""

    async def deleted(self, memory: str, deleted: Deleted) -> None:
        """A memory is gone; nothing of it may be kept any longer."""


async def tell(audience: Audience, memory: str, new: Restored) -> None:
    """Tells of a new revision. It is committed, whatever becomes of those who wanted to know."""
    try:
        if new.forgotten is None:
            audience.committed(memory, new.manifest)
        else:
            await audience.forgotten(memory, new.forgotten)
    except Exception as error:
        structlog.get_logger().error("a commit was not announced", memory=memory, error=repr(error))
