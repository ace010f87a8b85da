"""A hostile client: sends any bytes to any method, many calls at a time, and tells what became of them."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from memory_api.v1 import memory_pb2 as pb

from memory_server.interceptors.errors import VERDICTS
from tests.hostile import Hostile

SERVICE = pb.DESCRIPTOR.services_by_name["MemoryService"]
DESTRUCTIVE = {"DeleteMemory", "ForgetTask", "CancelTask"}
READ_AT_MOST = 2
"""Answers of a stream, some of which have no end."""

AT_A_TIME = 16
DEADLINE = 60.0
BROKEN_OFF = "Internal error from Core"
"""How grpc.aio calls it on the client's side when a server ends a call to which it is still sending."""

_MISBEHAVIOUR = {"INTERNAL", "CORRUPT_BLOB"}
_REASONS = {verdict.reason for verdict in VERDICTS.values()} - _MISBEHAVIOUR


@dataclass
class Outcome:
    """What became of the calls.

    Arguments:
        sent: messages.
        answers: how often each reason was given; "OK" where there was an answer.
        wrong: calls whose end is none that memory.proto knows.
    """

    sent: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


async def attack(target: str, count: int, names: Sequence[str], seed: int = 0) -> Outcome:
    """Sends at least so many messages.

    Arguments:
        names: of memories and tasks that there are; they are named to methods that change nothing.
    """
    outcome = Outcome()
    calls = _calls(count, names, seed)
    async with grpc.aio.insecure_channel(target) as channel, asyncio.TaskGroup() as group:
        for _ in range(AT_A_TIME):
            group.create_task(_keep_calling(channel, calls, outcome))
    return outcome


def _calls(count: int, names: Sequence[str], seed: int) -> Iterator[tuple[str, list[bytes]]]:
    """Methods and the messages of one call each: call k is a function of seed and k."""
    number, sent = 0, 0
    while sent < count:
        method = SERVICE.methods[number % len(SERVICE.methods)]
        source = random.Random(seed * 1_000_003 + number)
        hostile = Hostile(source, () if method.name in DESTRUCTIVE else names)
        length = source.randrange(1, 6) if method.client_streaming else 1
        payloads = [hostile.payload(method.input_type) for _ in range(length)]
        if method.client_streaming and source.random() < 0.7:
            payloads[0] = _header(names[0])
        yield method.name, payloads
        number, sent = number + 1, sent + length


def _header(memory: str) -> bytes:
    """A header that nothing is wrong with, so that what follows is looked at."""
    spec = pb.DataSpec(shape=(1, 8, 8), dtype=pb.UINT8)
    header = pb.LearnTaskHeader(memory=memory, task="hostile", spec=spec)
    return pb.LearnTaskRequest(header=header).SerializeToString()


async def _keep_calling(channel: grpc.aio.Channel, calls: Iterator[tuple[str, list[bytes]]], outcome: Outcome) -> None:
    for method, payloads in calls:
        outcome.sent += len(payloads)
        try:
            await _call(channel, method, payloads)
            outcome.answers["OK"] += 1
        except grpc.aio.AioRpcError as error:
            named = reason(error) or (error.details() if error.details() == BROKEN_OFF else "")
            outcome.answers[named or error.code().name] += 1
            if named not in _REASONS | {BROKEN_OFF}:
                outcome.wrong.append(f"{method} {[each[:200] for each in payloads]}: {error.code()} {error.details()}")


async def _call(channel: grpc.aio.Channel, method: str, payloads: list[bytes]) -> None:
    described = SERVICE.methods_by_name[method]
    path = f"/{SERVICE.full_name}/{method}"
    answer_type: Any = GetMessageClass(described.output_type)
    if described.client_streaming:
        await channel.stream_unary(path, response_deserializer=answer_type.FromString)(iter(payloads), timeout=DEADLINE)
    elif described.server_streaming:
        call = channel.unary_stream(path, response_deserializer=answer_type.FromString)(payloads[0], timeout=DEADLINE)
        read = 0
        async for _ in call:
            if (read := read + 1) == READ_AT_MOST:
                call.cancel()
                return
    else:
        await channel.unary_unary(path, response_deserializer=answer_type.FromString)(payloads[0], timeout=DEADLINE)


def reason(error: grpc.aio.AioRpcError) -> str:
    """What the details of an error name; empty if it has none."""
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    info = error_details_pb2.ErrorInfo()
    assert isinstance(details, bytes)
    if not any(detail.Unpack(info) for detail in status_pb2.Status.FromString(details).details):
        return ""
    return info.reason if info.domain == "memory_api" else ""
