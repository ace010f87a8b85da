"""What stands before every call: who calls, may they, and the audit log's lines about it."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import grpc
from memory_api.v1 import memory_pb2 as pb

from memory_server.codec.answers import Samples
from memory_server.errors import UnknownMemory
from memory_server.interceptors.access import RULES, Access, check, host, memory_of, origin, shown, tasks_of
from memory_server.interceptors.errors import code_of
from memory_server.interceptors.open_calls import OpenCalls
from memory_server.security.audit import AuditLog
from memory_server.security.rights import CLIENT, Caller
from memory_server.security.streams import OpenStreams

_STREAMED = ("Sample", "Interpolate", "WatchTask", "Sleep")
_HEAVY = ("Classify", "ExportMemory")
"""They hold a message or a blob each, as uploads do, which count before their first message."""

Context = grpc.aio.ServicerContext[Any, Any]


class Guard:
    """Lets calls in, or not.

    Arguments:
        access: who may do what.
        audit: told of it, None if nobody wants to know.
        streams: how many of them each client has open.
        calls: how many others that hold much.
        clock: seconds, never going back.

    Attributes:
        open_calls: those that it has let in.
    """

    def __init__(
        self,
        access: Access,
        audit: AuditLog | None,
        streams: OpenStreams,
        calls: OpenStreams,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.open_calls = OpenCalls(access)
        self._access = access
        self._audit = audit
        self._uploads = calls
        self._open = dict.fromkeys(_STREAMED, streams) | dict.fromkeys(_HEAVY, calls)
        self._clock = clock

    @asynccontextmanager
    async def identified(self, method: str, context: Context) -> AsyncIterator[Caller]:
        """Who makes a call, before it has said anything. Raises Unauthenticated, also once the token is revoked."""
        with self._refusals(method, None, context, None):
            caller = self._access.caller(context)
        async with self.open_calls.one_more(caller):
            yield caller

    @asynccontextmanager
    async def upload(self, method: str, context: Context) -> AsyncIterator[Caller]:
        """Who sends an upload, as `identified`; it counts while the block lasts. Raises ClientLimit, too."""
        async with self.identified(method, context) as caller:
            with ExitStack() as stack:
                with self._refusals(method, caller.name, context, None):
                    stack.enter_context(self._uploads.one_more(caller.name))
                yield caller

    @contextmanager
    def visit(self, method: str, caller: Caller, context: Context, request: Any) -> "Iterator[Visit]":
        """One call, from its first message to its end.

        Raises:
            PermissionDenied: the caller may not.
            ClientLimit: it has too many streams, or other calls, open.
            AuditFailed: what is done cannot be noted, so it is not done; or its end could not be.
            Unauthenticated: it was cancelled, and the token is no longer good.
            Whatever leaves the block, without names of which the caller may not know.
        """
        with ExitStack() as stack:
            with self._refusals(method, caller.name, context, request):
                check(method, caller, request)
                if method in self._open:
                    stack.enter_context(self._open[method].one_more(caller.name))
            visit = Visit(caller, self._access)
            stack.enter_context(self._noted(method, caller, context, request, visit))
            stack.callback(CLIENT.reset, CLIENT.set(caller.name))
            try:
                yield visit
            except UnknownMemory as error:
                raise error.told(caller.grant.covers) from None
            except asyncio.CancelledError:
                self._access.confirm(caller)  # so that the audit log says who ended it: we did
                raise

    @contextmanager
    def _refusals(self, method: str, client: str | None, context: Context, request: Any) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if self._audit is not None:
                who = _who(method, client or origin(context), context, request)
                self._audit.write("refused", **who, code=code_of(error))
            raise

    @contextmanager
    def _noted(self, method: str, caller: Caller, context: Context, request: Any, visit: "Visit") -> Iterator[None]:
        if self._audit is None or not RULES[method].action:
            yield
            return
        call, began, code = secrets.token_hex(6), self._clock(), "CANCELLED"
        self._audit.write("begin", call=call, **_who(method, caller.name, context, request))
        try:
            yield
            code = "OK"
        except Exception as error:
            code = code_of(error)
            raise
        finally:
            seconds = round(self._clock() - began, 3)
            self._audit.write("end", call=call, code=code, rows=visit.rows, revision=visit.revision, seconds=seconds)


class Visit:
    """What a call has done so far.

    Attributes:
        rows: that were learned, sampled or classified, None if it is not about rows.
        revision: of the memory that it was about, None while unknown.
    """

    def __init__(self, caller: Caller, access: Access) -> None:
        self._caller = caller
        self._access = access
        self.rows: int | None = None
        self.revision: int | None = None

    def received(self) -> None:
        """Another message came. Raises Unauthenticated if the token is no longer good."""
        self._access.confirm(self._caller)

    def answered(self, answer: Any) -> Any:
        """Notes an answer; gives what the caller may see of it. Raises Unauthenticated as `received` does."""
        self._access.confirm(self._caller)
        if isinstance(answer, Samples):
            self.rows = (self.rows or 0) + answer.rows
            self.revision = answer.message.header.revision or self.revision
        elif isinstance(answer, pb.ClassifyResponse):
            self.rows, self.revision = len(answer.y) // 4, answer.revision
        elif isinstance(answer, pb.Task):
            self.rows, self.revision = answer.count, answer.revision or None
        elif isinstance(answer, pb.Memory):
            self.revision = answer.revision
        return shown(answer, self._caller)


def _who(method: str, client: str, context: Context, request: Any) -> dict[str, Any]:
    rule = RULES.get(method)
    facts = {"client": client, "peer": host(context), "action": (rule.action if rule else "") or method}
    if origin(context) not in (client, host(context)):
        facts["certificate"] = origin(context)
    return facts if request is None else {**facts, "memory": memory_of(request), "tasks": tasks_of(request)}
