"""The Unix socket, before anything is served on it."""

import os
import socket
import stat

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from memory_server.errors import CannotStart
from memory_server.sockets import bound_socket


async def serving(path):
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    bound = bound_socket(server, path)
    bound.__enter__()
    await server.start()
    return server, bound


async def answers(path) -> bool:
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    return reply.status == health_pb2.HealthCheckResponse.SERVING


def stale_socket(path):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))


async def test_a_socket_is_for_its_user_alone_and_is_gone_at_the_end(tmp_path):
    path = tmp_path / "memory.sock"
    mask = os.umask(0)
    server, bound = await serving(path)
    assert os.umask(mask) == 0, "the mask is as it was"
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert await answers(path)
    await server.stop(None)
    bound.__exit__(None, None, None)
    assert not path.exists()


async def test_the_socket_of_a_server_that_is_gone_is_replaced(tmp_path):
    path = tmp_path / "memory.sock"
    stale_socket(path)
    server, bound = await serving(path)
    assert await answers(path)
    await server.stop(None)
    bound.__exit__(None, None, None)


async def test_the_socket_of_a_running_server_is_left_to_it(tmp_path):
    path = tmp_path / "memory.sock"
    server, bound = await serving(path)
    with pytest.raises(CannotStart, match="a running server listens there; choose another with --unix-socket"):
        await serving(path)
    assert await answers(path)
    await server.stop(None)
    bound.__exit__(None, None, None)


async def test_what_another_server_put_there_meanwhile_is_not_removed(tmp_path):
    path = tmp_path / "memory.sock"
    server, bound = await serving(path)
    path.unlink()
    stale_socket(path)
    other = path.lstat()
    bound.__exit__(None, None, None)
    assert os.path.samestat(path.lstat(), other)
    await server.stop(None)


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (lambda folder: folder / "file", "it is there and is no socket"),
        (lambda folder: folder, "it is there and is no socket"),
        (lambda folder: folder / "missing" / "memory.sock", "its directory is missing or not writable"),
        (lambda folder: folder / "file" / "memory.sock", "Not a directory"),
        (lambda folder: folder / ("long" * 30), "the path is longer than 107 bytes"),
    ],
)
async def test_where_no_socket_can_be_is_said_clearly(place, reason, tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(CannotStart, match=f"cannot listen on the Unix socket .*: {reason}; choose"):
        await serving(place(tmp_path))
    assert (tmp_path / "file").read_text() == "kept"


async def test_without_a_path_there_is_no_socket(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server, bound = await serving(None)
    bound.__exit__(None, None, None)
    await server.stop(None)
    assert list(tmp_path.iterdir()) == []
