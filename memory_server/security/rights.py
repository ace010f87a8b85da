"""What a caller may do, and with which memories."""

from collections.abc import Collection
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase


class Right(StrEnum):
    """What a token may be good for."""

    LEARN = "learn"
    SAMPLE = "sample"
    ADMIN = "admin"


EVERY_RIGHT = frozenset(Right)


@dataclass(frozen=True)
class Grant:
    """Rights on memories.

    Arguments:
        rights: `ADMIN` includes the others: who may export a memory has all that can be sampled from it.
        memories: names, or patterns such as "digits*", of memories whether they exist or not.
    """

    rights: frozenset[Right]
    memories: tuple[str, ...]

    def covers(self, memory: str) -> bool:
        """Whether anything may be done with a memory; then its caller may know of it."""
        return any(fnmatchcase(memory, pattern) for pattern in self.memories)

    def allows(self, any_of: Collection[Right], memory: str) -> bool:
        """Whether it gives one of these rights on a memory."""
        return self.covers(memory) and bool(self.rights & {*any_of, Right.ADMIN})


EVERYTHING = Grant(EVERY_RIGHT, ("*",))

CLIENT: ContextVar[str] = ContextVar("client")
"""The name of the present call's client, for what is counted by client below the interceptors."""


@dataclass(frozen=True)
class Caller:
    """Who calls.

    Arguments:
        name: of the token, else the subject of the client's certificate, else the host that it calls from.
        grant: what it may do.
        token: digest of the token, None where none is asked for.
    """

    name: str
    grant: Grant
    token: bytes | None = None
