"""`memory-server health`, as a probe runs it, against a health service that the test conducts."""

import pytest
from grpc_health.v1 import health_pb2
from typer.testing import CliRunner

from memory_server.__main__ import application
from memory_server.watching.health import LEARNING, SERVICE

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def probe(*options: str) -> tuple[int, str]:
    result = CliRunner().invoke(application(), ["health", *options])
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("serves", "learns", "plain", "of_learning"),
    [(SERVING, SERVING, 0, 0), (SERVING, NOT_SERVING, 0, 1), (NOT_SERVING, NOT_SERVING, 1, 1)],
)
def test_the_exit_status_tells_serving_from_stuck(checked, serves, learns, plain, of_learning):
    checked.set(SERVICE, serves)
    checked.set(LEARNING, learns)
    assert probe("--target", checked.target)[0] == plain
    assert probe("--target", checked.target, "--learning")[0] == of_learning


def test_a_server_that_does_not_answer_is_not_healthy():
    status, output = probe("--target", "localhost:1", "--timeout", "1")
    assert status == 1 and "no answer (UNAVAILABLE): no memory server answers at localhost:1" in output
