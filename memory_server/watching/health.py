"""Health that tells a server that serves from one whose training is stuck."""

import asyncio
from collections.abc import Callable

import structlog
from grpc_health.v1 import health, health_pb2
from memory_api.v1 import memory_pb2

SERVICE = memory_pb2.DESCRIPTOR.services_by_name["MemoryService"].full_name
LEARNING = f"{SERVICE}/learning"
"""What health checks call learning: NOT_SERVING while a task that is being learned makes no progress."""

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class LearningHealth:
    """A name of `grpc.health.v1` that is NOT_SERVING while what runs makes no progress, and SERVING otherwise.

    Arguments:
        name: the name.
        servicer: answers health checks.
        silence: seconds since the stillest run moved, 0 if nothing runs.
        limit: seconds of silence beyond which learning is stuck.
    """

    def __init__(
        self,
        name: str,
        servicer: health.aio.HealthServicer,
        silence: Callable[[], float],
        limit: float,
    ) -> None:
        self._name = name
        self._servicer = servicer
        self._silence = silence
        self._limit = limit
        self._stuck = False

    async def look(self) -> None:
        """Says how it is now, and logs it when it changes."""
        silence = self._silence()
        stuck = silence > self._limit
        if stuck and not self._stuck:
            structlog.get_logger().warning("learning is stuck", silent_seconds=round(silence, 1))
        elif self._stuck and not stuck:
            structlog.get_logger().info("learning goes on")
        self._stuck = stuck
        await self._servicer.set(self._name, _NOT_SERVING if stuck else _SERVING)

    async def keep_looking(self) -> None:
        """Looks until it is cancelled, four times within the limit and at least once a second."""
        while True:
            await self.look()
            await asyncio.sleep(min(1.0, self._limit / 4))
