"""Sleep while there is nothing to learn."""

import asyncio
import time

import structlog

from memory_server.learning.queue import TaskQueue

_LOOKS = 10
"""How often it is looked whether there is, within the time for which there must have been nothing."""


async def sleep_when_idle(queue: TaskQueue, seconds: float) -> None:
    """Has memories sleep, one after the other, once there was nothing to learn for so long. Runs until cancelled."""
    idle_since = time.monotonic()
    while True:
        await asyncio.sleep(seconds / _LOOKS)
        if queue.busy:
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since >= seconds:
            try:
                await queue.use_idleness()
            except Exception as error:  # such as a disk that fails for a while
                structlog.get_logger().error("no memory was put to sleep", error=repr(error))
