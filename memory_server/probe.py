"""The command `memory-server health`: what a probe in a container, or an operator, asks."""

import sys
from pathlib import Path
from typing import Annotated

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc
from memory_client.channel import Connection
from memory_client.credentials import Credentials
from memory_client.errors import InvalidInput, from_rpc

from memory_server.watching.health import LEARNING, SERVICE


def health(
    target: Annotated[str, typer.Option(help="Address of the server: host:port, or unix:/path.")] = "localhost:50051",
    learning: Annotated[bool, typer.Option("--learning", help="Ask whether learning goes on, too.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the answer.")] = 4.0,
    ca: Annotated[Path | None, typer.Option(help="PEM authority of the server's certificate: speaks TLS.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="PEM certificate to show, where one is asked for.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM key of that certificate.")] = None,
) -> None:
    """Say whether a server serves: exit status 0 if it does, else 1. No token is needed.

    With --learning, also 1 if a task that is being learned makes no progress; restart no server for that alone.
    """
    try:
        credentials = Credentials.read(target, None, ca, certificate, key)
    except InvalidInput as error:
        raise typer.BadParameter(str(error)) from error
    connection = Connection(target, timeout=timeout, reconnect=0, credentials=credentials)
    try:
        answers = {name: _ask(connection, name) for name in (SERVICE, *([LEARNING] if learning else []))}
    finally:
        connection.close()
    print("\n".join(f"{name}: {answer}" for name, answer in answers.items()))  # noqa: T201
    sys.exit(any(answer != "SERVING" for answer in answers.values()))


def _ask(connection: Connection, service: str) -> str:
    """SERVING, NOT_SERVING, or why there is no answer."""
    request = health_pb2.HealthCheckRequest(service=service)
    try:
        answer = health_pb2_grpc.HealthStub(connection.channel).Check(request, timeout=connection.timeout)
    except grpc.RpcError as error:
        return f"no answer ({error.code().name}): {from_rpc(error, connection.target)}"
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
