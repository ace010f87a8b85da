"""The tree of errors: complete against memory.proto, told in words that help, and able to travel."""

import pickle
import re
from pathlib import Path

import grpc
import memory_api.v1
import pytest
from memory_client import (
    InvalidInput,
    MemoryServiceError,
    MessageTooLarge,
    ServerBusy,
    ServerUnavailable,
    TaskRejected,
    errors,
)
from memory_client.errors import BY_REASON, FieldViolation, as_rejection, from_rpc

PROTO = Path(memory_api.v1.__path__[0]) / "memory.proto"


class Failure(grpc.RpcError):
    """A failed call without details, as a network gives it."""

    def __init__(self, status, details="", metadata=()):
        self._status, self._details, self._metadata = status, details, metadata

    def code(self):
        return self._status

    def details(self):
        return self._details

    def trailing_metadata(self):
        return self._metadata


def reasons_in_the_proto() -> set[str]:
    comments = " ".join(re.findall(r"//(.*)", PROTO.read_text()))
    codes = {status.name for status in grpc.StatusCode}
    return {name for name in re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", comments) if name not in codes}


def test_every_reason_that_the_proto_names_has_its_class():
    assert reasons_in_the_proto() == set(BY_REASON)


def test_every_class_of_the_tree_is_exported():
    import memory_client

    tree = {name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, Exception)}
    assert tree <= set(memory_client.__all__)


@pytest.mark.parametrize("status", list(grpc.StatusCode))
def test_every_status_without_details_becomes_an_error_of_the_tree(status):
    error = from_rpc(Failure(status), "host:1")

    assert isinstance(error, MemoryServiceError)
    assert error.status is status
    assert error.reason == ""
    assert str(error)


def test_a_server_that_is_away_is_named_with_what_to_do():
    error = from_rpc(Failure(grpc.StatusCode.UNAVAILABLE, "connection refused"), "host:1")

    assert isinstance(error, ServerUnavailable)
    assert str(error) == (
        "no memory server answers at host:1 (connection refused). "
        "Start one with `memory-server serve`, correct the target, or have it tried for longer (reconnect=)"
    )


def test_the_socket_of_another_user_is_told_from_a_server_that_is_away():
    denied = Failure(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses; last error: Permission denied")
    error = from_rpc(denied, "unix:/run/memory.sock")

    assert type(error) is ServerUnavailable
    assert str(error).startswith("unix:/run/memory.sock is not for the user of this process")
    assert "the server's own user" in str(error) and "Start one" not in str(error)
    assert str(from_rpc(denied, "host:1")).startswith("no memory server answers at host:1")


def test_a_port_that_speaks_another_service_is_told():
    error = from_rpc(Failure(grpc.StatusCode.UNIMPLEMENTED, "Method not found!"), "host:1")

    assert "is not a memory server" in str(error)


def test_a_message_that_grpc_refuses_for_its_size_is_no_busy_server():
    for said in ("CLIENT: Received message larger than max (5 vs. 4)", "SERVER: Decompressed message larger than max"):
        error = from_rpc(Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, said), "host:1")
        assert type(error) is MessageTooLarge
        assert str(error).startswith(f"{said}. Send smaller rows") and "--max-message-bytes" in str(error)
    assert type(from_rpc(Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "slow down"), "host:1")) is ServerBusy


def test_errors_survive_pickling():
    error = InvalidInput("x", reason="BAD_REQUEST", field_violations=(FieldViolation("x", "y"),), retry_after=2.0)

    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is InvalidInput
    assert (str(copy), copy.reason, copy.field_violations, copy.retry_after) == (
        "x",
        "BAD_REQUEST",
        error.field_violations,
        2.0,
    )


def test_a_refusal_of_data_keeps_what_was_said():
    error = as_rejection(
        InvalidInput("x: wrong", reason="BAD_REQUEST", field_violations=(FieldViolation("x", "wrong"),))
    )

    assert isinstance(error, TaskRejected)
    assert (str(error), error.reason) == ("x: wrong", "BAD_REQUEST")
    assert error.field_violations == (FieldViolation("x", "wrong"),)
