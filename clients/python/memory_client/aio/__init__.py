"""The client for asyncio: the verbs and arguments of `memory_client`, to be awaited.

from memory_client.aio import Memory

async with Memory("localhost:50051", name="digits") as memory:
    await memory.learn_task((x, y), task="t0")
    async for x, y in memory.stream(batch_size=128): ...
"""

from memory_client.aio.learning import TaskHandle
from memory_client.aio.memory import Memory

__all__ = ["Memory", "TaskHandle"]
