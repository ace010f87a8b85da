import asyncio

import grpc
import pytest
import structlog
from google.rpc import error_details_pb2
from grpc._cython.cygrpc import ExecuteBatchError

import memory_server.learning.errors
import memory_server.store.errors
from memory_server import errors
from memory_server.interceptors.errors import VERDICTS, status_of, translated, verdict_on
from memory_server.store.errors import DiskFailed


def tree(root):
    """All classes below a root."""
    return {one for child in root.__subclasses__() for one in (child, *tree(child))}


BRANCHES = {errors.AskedWrongly, errors.Busy, errors.Broken}
LEAVES = sorted(tree(errors.MemoryServerError) - BRANCHES, key=lambda kind: kind.__name__)


def test_the_modules_that_define_errors_have_been_seen():
    names = {kind.__module__ for kind in LEAVES}
    assert names >= {errors.__name__, memory_server.store.errors.__name__, memory_server.learning.errors.__name__}


@pytest.mark.parametrize("kind", LEAVES)
def test_every_error_of_ours_has_a_verdict(kind):
    assert any(base in VERDICTS for base in kind.__mro__)


@pytest.mark.parametrize("kind", [kind for kind in LEAVES if not issubclass(kind, errors.Broken)])
def test_every_error_that_a_caller_can_mend_has_a_reason_of_its_own(kind):
    assert kind in VERDICTS
    assert [verdict.reason for verdict in VERDICTS.values()].count(VERDICTS[kind].reason) == 1


@pytest.mark.parametrize("kind", [kind for kind in VERDICTS if kind is not DiskFailed])
def test_the_code_says_who_is_at_fault(kind):
    servers = {grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS}
    assert (VERDICTS[kind].code in servers) == issubclass(kind, errors.Broken)


def details(error):
    found = {}
    for packed in status_of(error).details:
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
            if packed.Is(kind.DESCRIPTOR):
                found[kind] = kind.FromString(packed.value)
    return found


def test_a_bad_request_names_its_field():
    (violation,) = details(errors.BadRequest("header.spec.shape", "too wide"))[
        error_details_pb2.BadRequest
    ].field_violations
    assert (violation.field, violation.description) == ("header.spec.shape", "too wide")


def test_a_busy_server_says_when_to_come_back():
    retry = details(errors.ServerBusy("full", retry_after=2.5))[error_details_pb2.RetryInfo]
    assert retry.retry_delay.ToMilliseconds() == 2500


def test_a_long_message_is_cut_to_what_a_header_can_carry():
    known = ["ä" * 200] * 100
    status = status_of(errors.UnknownClass("m", "x", known))
    assert len(status.SerializeToString()) < 2000
    assert status.message.startswith("memory 'm' has not learned class 'x'")


def test_a_long_field_and_its_description_are_cut_to_what_a_header_can_carry():
    status = status_of(errors.BadRequest("options." + "k" * 10_000, "there is no option " + "k" * 10_000))
    assert len(status.SerializeToString()) < 4000


def test_what_nobody_foresaw_has_no_verdict():
    assert verdict_on(ZeroDivisionError()) is None


async def test_a_write_to_a_caller_who_has_left_is_no_incident():
    with structlog.testing.capture_logs() as logged, pytest.raises(asyncio.CancelledError):
        async with translated("Sample", None):
            raise ExecuteBatchError('Failed "execute_batch"')
    assert logged == []
