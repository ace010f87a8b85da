import asyncio
from types import SimpleNamespace

import pytest
from grpc_health.v1 import health, health_pb2

from memory_server.watching.health import LearningHealth

STATUS = health_pb2.HealthCheckResponse


@pytest.fixture
def looked():
    """Sets the silence, has it looked at, and gives what a check answers then."""
    now = SimpleNamespace(silence=0.0)
    servicer = health.aio.HealthServicer()
    learning = LearningHealth("learning", servicer, lambda: now.silence, limit=10.0)

    async def look(silence: float) -> int:
        now.silence = silence
        await learning.look()
        return (await servicer.Check(health_pb2.HealthCheckRequest(service="learning"), None)).status

    look.servicer, look.learning = servicer, learning
    return look


async def test_learning_that_makes_no_progress_for_too_long_is_stuck_until_it_moves(looked):
    assert await looked(10.0) == STATUS.SERVING
    assert await looked(10.1) == STATUS.NOT_SERVING
    assert await looked(0.0) == STATUS.SERVING


async def test_stuck_learning_does_not_make_the_server_itself_unhealthy(looked):
    await looked(99.0)
    assert (await looked.servicer.Check(health_pb2.HealthCheckRequest(), None)).status == STATUS.SERVING


async def test_once_the_server_stops_nothing_serves_again(looked):
    await looked(0.0)
    await looked.servicer.enter_graceful_shutdown()
    assert await looked(0.0) == STATUS.NOT_SERVING


async def test_it_keeps_looking(looked, eventually):
    looking = asyncio.create_task(looked.learning.keep_looking())
    await asyncio.sleep(0)
    answer = await looked.servicer.Check(health_pb2.HealthCheckRequest(service="learning"), None)
    looking.cancel()
    assert answer.status == STATUS.SERVING
