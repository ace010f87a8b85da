"""Sealing of what lies on disk: AES-256-GCM, so that nobody without the key reads or changes it unnoticed."""

import os
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from memory_server.errors import Broken, CannotStart
from memory_server.secrecy import exposed, named, remedy
from memory_server.settings import KEY_VARIABLE

KEY_BYTES = 32
"""The environment variable that may hold the key; there is no such option, because command lines are public."""

_NONCE_BYTES = 12


class BadKey(CannotStart):
    """A key cannot be used; the message says why, what to do, and nothing of the key."""


class Unsealable(Broken):
    """Sealed bytes are damaged, were sealed by another key, or belong elsewhere."""

    def __init__(self, context: str) -> None:
        super().__init__(f"{context} cannot be unsealed: it is damaged, or was sealed by another key")


class SealingKey:
    """A secret of 256 bits.

    Arguments:
        secret: 32 random bytes.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise BadKey(f"an encryption key has {KEY_BYTES} bytes, not {len(secret)}")
        self.secret = secret
        self._cipher = AESGCM(secret)

    @classmethod
    def new(cls) -> Self:
        """A key that nobody has yet."""
        return cls(os.urandom(KEY_BYTES))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The key that 64 hexadecimal digits write. Raises BadKey."""
        try:
            return cls(bytes.fromhex(text.strip()))
        except ValueError:
            raise BadKey(f"an encryption key is written as {2 * KEY_BYTES} hexadecimal digits") from None

    @classmethod
    def read(cls, path: Path) -> Self:
        """The key in a file. Raises BadKey if it cannot be read, is malformed, or others may read it."""
        try:
            if exposed(found := path.stat()):
                raise BadKey(f"others may read the key file {path}; make it private: {remedy(path, found)}")
            text = path.read_text()
        except OSError as error:
            raise BadKey(f"the key file {named(path)} cannot be read ({error.strerror}); name another") from error
        return cls.from_text(text)

    def write(self, path: Path) -> None:
        """Writes the key into a new file, mode 0600, durably. Raises BadKey if it cannot, or the file is there."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(self.secret.hex() + "\n")
                file.flush()
                os.fsync(file.fileno())
        except FileExistsError:
            raise BadKey(f"{path} is there already, and may be somebody's key; choose another name") from None
        except OSError as error:
            raise BadKey(f"no key can be written to {path} ({error.strerror}); choose another place") from error

    def __repr__(self) -> str:
        return "SealingKey(...)"

    def seal(self, content: bytes, context: str) -> bytes:
        """A fresh nonce of 12 bytes, the encrypted content, a tag of 16 bytes.

        Arguments:
            content: up to 2 GiB.
            context: what the content is, such as its digest: must be the same to unseal it.
        """
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, content, context.encode())

    def unseal(self, sealed: bytes, context: str) -> bytes:
        """What was sealed in this context by this key. Raises Unsealable."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context.encode())
        except (InvalidTag, ValueError):
            raise Unsealable(context) from None


def configured_key(path: Path | None) -> SealingKey | None:
    """The key that the operator gave: in a file, or in the environment; None if in neither.

    Raises:
        BadKey: it cannot be read or is malformed, or there are two.
    """
    text = os.environ.get(KEY_VARIABLE)
    if path is not None and text:
        where = f"--encryption-key-file {named(path)} and in {KEY_VARIABLE}"
        raise BadKey(f"there are two encryption keys, in {where}; keep one")
    if path is not None:
        return SealingKey.read(path)
    return SealingKey.from_text(text) if text else None
