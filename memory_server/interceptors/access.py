"""Which RPC takes which right, who calls, and what an answer may show them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from memory_api.v1 import memory_pb2 as pb

from memory_server.errors import PermissionDenied, Unauthenticated
from memory_server.security.following import Following
from memory_server.security.rights import EVERY_RIGHT, EVERYTHING, Caller, Right
from memory_server.security.tokens import Now, Tokens, digest_of, now

Context = grpc.aio.ServicerContext[Any, Any]

_SCHEME = "bearer "
_OF_MEMORY = " of memory "


@dataclass(frozen=True)
class Rule:
    """What an RPC takes.

    Arguments:
        any_of: one of these rights on the memory that the request names.
        action: as the audit log calls it; empty: only refusals are noted.
    """

    any_of: frozenset[Right]
    action: str = ""


_LEARN, _SAMPLE, _ADMIN = (frozenset({right}) for right in (Right.LEARN, Right.SAMPLE, Right.ADMIN))

RULES: Mapping[str, Rule] = {
    "CreateMemory": Rule(_ADMIN, "create"),
    "GetMemory": Rule(EVERY_RIGHT),
    "ListMemories": Rule(EVERY_RIGHT),
    "DeleteMemory": Rule(_ADMIN, "delete"),
    "LearnTask": Rule(_LEARN, "learn"),
    "GetTask": Rule(EVERY_RIGHT),
    "ListTasks": Rule(EVERY_RIGHT),
    "WatchTask": Rule(_LEARN),
    "CancelTask": Rule(_LEARN, "cancel"),
    "ForgetTask": Rule(_ADMIN, "forget"),
    "Sleep": Rule(_LEARN, "sleep"),
    "Sample": Rule(_SAMPLE, "sample"),
    "Interpolate": Rule(_SAMPLE, "sample"),
    "Classify": Rule(_SAMPLE, "classify"),
    "ExportMemory": Rule(_ADMIN, "export"),
    "ImportMemory": Rule(_ADMIN, "import"),
}
"""The table of docs/security.md."""

_OF_NO_MEMORY = {"ListMemories"}


class Access:
    """Who calls, and what they may do.

    Arguments:
        tokens: whose holders may call; None: everybody may do everything.
        clock: the present time.
    """

    def __init__(self, tokens: Following[Tokens] | None, clock: Now = now) -> None:
        self._tokens = tokens
        self._clock = clock

    def caller(self, context: Context) -> Caller:
        """Who calls. Raises Unauthenticated without a valid token, where one is needed."""
        if self._tokens is None:
            return Caller(origin(context), EVERYTHING)
        digest = digest_of(_shown(context))
        record = self._tokens.value.find(digest, self._clock())
        if record is None:
            raise Unauthenticated
        return Caller(record.name, record.grant, digest)

    def confirm(self, caller: Caller) -> None:
        """Raises Unauthenticated if the token has been revoked or changed, or has expired, since the call began."""
        if caller.token is not None and self._tokens is not None:
            record = self._tokens.value.find(caller.token, self._clock())
            if record is None or record.grant != caller.grant:
                raise Unauthenticated


def check(method: str, caller: Caller, request: Any) -> None:
    """Raises PermissionDenied unless a caller may do this with the memory that a request names."""
    if method not in _OF_NO_MEMORY and not caller.grant.allows(RULES[method].any_of, memory_of(request)):
        raise PermissionDenied(memory_of(request))


def origin(context: Context) -> str:
    """What the connection says of its other end: the subject of its certificate, else its host, or "unix"."""
    subjects = list(context.auth_context().get("x509_subject", ()))
    return subjects[0].decode(errors="replace") if subjects else host(context)


def host(context: Context) -> str:
    """The host at the other end, "unix" for the Unix socket."""
    family, _, rest = str(context.peer()).partition(":")
    address = rest.rpartition(":")[0].replace("%5B", "[").replace("%5D", "]")  # as gRPC writes that of IPv6
    return family if family == "unix" else address.strip("[]")


def memory_of(request: Any) -> str:
    """The name of the memory in a request, or in the header of a stream's first message; empty if it names none."""
    part = _named(request)
    return next((str(getattr(part, field)) for field in ("memory", "name") if hasattr(part, field)), "")


def tasks_of(request: Any) -> list[str]:
    """The tasks that a request names."""
    part = _named(request)
    named = [getattr(part, field, "") for field in ("task", "start", "end")]
    return [*filter(None, named), *getattr(part, "tasks", ())]


def shown(answer: Any, caller: Caller) -> Any:
    """An answer without the names of memories of which its caller may not know."""
    if isinstance(answer, pb.ListMemoriesResponse):
        return pb.ListMemoriesResponse(memories=[one for one in answer.memories if caller.grant.covers(one.name)])
    if isinstance(answer, pb.SleepResponse) and answer.WhichOneof("message") == "queued":
        _veil(answer.queued, caller)
    for task in answer.tasks if isinstance(answer, pb.ListTasksResponse) else [answer]:
        if isinstance(task, pb.Task):
            _veil(task, caller)
    return answer


def _veil(waiting: pb.Task | pb.SleepQueued, caller: Caller) -> None:
    other = waiting.waiting_for.rpartition(_OF_MEMORY)[2]
    if other and not caller.grant.covers(other):
        waiting.waiting_for = "queued behind another memory"


def _named(request: Any) -> Any:
    return request.header if hasattr(request, "header") else request


def _shown(context: Context) -> str:
    """The token of a call; empty if there is none."""
    values = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
    sent = values[0] if len(values) == 1 and isinstance(values[0], str) else ""
    return sent[len(_SCHEME) :].strip() if sent.lower().startswith(_SCHEME) else ""
