"""Bearer tokens: who may call, with which rights, until when. The file knows them by their SHA-256 alone.

A token is 256 random bits. A plain hash is enough for it, unlike for a password: nobody guesses one of 2^256 values, so
that a salt or a slow hash would only make every call slower.
"""

import fcntl
import hashlib
import hmac
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from memory_server.errors import CannotStart
from memory_server.secrecy import pass_on
from memory_server.security.following import private
from memory_server.security.rights import Grant, Right

PREFIX = "gmt_"
"""Begins every token, so that scanners for leaked secrets can know one."""

_RANDOM_BYTES = 32
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$"

Now = Callable[[], datetime]
"""The present time, with its zone."""


def now() -> datetime:
    """The present time in UTC."""
    return datetime.now(UTC)


class Record(BaseModel):
    """What is kept of one token. Raises ValidationError."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_NAME)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    rights: frozenset[Right] = Field(min_length=1)
    memories: tuple[str, ...] = Field(min_length=1)
    expires: AwareDatetime | None = None

    @property
    def digest(self) -> bytes:
        """SHA-256 of the token."""
        return bytes.fromhex(self.sha256)

    @property
    def grant(self) -> Grant:
        """What the token is good for."""
        return Grant(self.rights, self.memories)


class Tokens(BaseModel):
    """All tokens of a server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: tuple[Record, ...] = ()

    def find(self, digest: bytes, at: datetime) -> Record | None:
        """The token of this digest that has not expired. Takes the same time whichever it is, and if there is none."""
        found = None
        for record in self.tokens:
            if hmac.compare_digest(record.digest, digest):
                found = record
        return None if found is None or expired(found, at) else found


def expired(record: Record, at: datetime) -> bool:
    """Whether a token is good no longer."""
    return record.expires is not None and record.expires <= at


def digest_of(token: str) -> bytes:
    """What is compared."""
    return hashlib.sha256(token.encode()).digest()


def read(path: Path) -> Tokens:
    """The tokens in a file.

    Raises:
        CannotStart: it cannot be read, is open to others, or makes no sense.
    """
    content = private(path, "--tokens", "name the file that memory-server token add writes, readable for the server")
    try:
        return Tokens.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]  # never repeats a value
        where = ".".join(map(str, first["loc"])) or "it"
        raise CannotStart(
            f"--tokens {path}: {where}: {first['msg']}; write it with memory-server token add, or mend it"
        ) from None


def add(path: Path, name: str, rights: list[Right], memories: list[str], expires: datetime | None) -> str:
    """Makes a token and records it; the file is made if it is not there. Gives the token, which is kept nowhere.

    Raises:
        CannotStart: the name is taken, or the file cannot be used.
    """
    token = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    record = Record(
        name=name, sha256=digest_of(token).hex(), rights=frozenset(rights), memories=tuple(memories), expires=expires
    )
    with _changing(path):
        present = read(path).tokens if path.exists() else ()
        if any(one.name == name for one in present):
            raise CannotStart(f"--name {name}: there is such a token; choose another name, or revoke that one first")
        _write(path, Tokens(tokens=(*present, record)))
    return token


def revoke(path: Path, name: str) -> None:
    """Has a token refused from the next call on. Raises CannotStart if there is none of this name."""
    with _changing(path):
        present = read(path).tokens
        kept = tuple(one for one in present if one.name != name)
        if len(kept) == len(present):
            known = ", ".join(one.name for one in present) or "none"
            raise CannotStart(f"there is no token {name}; the tokens in {path} are: {known}")
        _write(path, Tokens(tokens=kept))


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    """Two who change a file do so one after the other."""
    try:
        folder = os.open(path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise CannotStart(f"--tokens {path}: {error.strerror}; name a file in a directory that is there") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
        os.fsync(folder)
    finally:
        os.close(folder)


def _write(path: Path, tokens: Tokens) -> None:
    """Replaces the file at once: a server that reads it meanwhile sees one of the two whole, and may read both."""
    if path.is_symlink():
        raise CannotStart(f"--tokens {path}: this is a symbolic link; name the file itself. Nothing was changed")
    made = path.absolute().with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            pass_on(descriptor, path)
            file.write(tokens.model_dump_json(indent=2) + "\n")
            file.flush()
            os.fsync(descriptor)
        made.replace(path)
    except OSError as error:
        made.unlink(missing_ok=True)
        advice = ": do this as the file's owner, or as root" if isinstance(error, PermissionError) else ""
        raise CannotStart(f"--tokens {path}: {error.strerror}; nothing was changed{advice}") from error
