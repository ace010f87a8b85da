"""The data keys of an encrypted directory: every blob has one of its own, which only the master key unseals.

A data key lies sealed in the row of its blob, and is destroyed with that row: what was forgotten cannot be read again,
not even from a copy of its file. Whether a directory is encrypted, and by which key, says a proof that it has sealed.
"""

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from pathlib import Path

from sqlalchemy import Connection, insert, select, update

from memory_server.settings import KEY_VARIABLE
from memory_server.store.database import Database
from memory_server.store.errors import WrongKey
from memory_server.store.schema import blobs, encryption
from memory_server.store.sealing import SealingKey, Unsealable

_PROOF = "memory-server"
_HOW = f"with --encryption-key-file or the environment variable {KEY_VARIABLE}"


class Keyring(MutableMapping[str, SealingKey]):
    """Digest -> data key. One that is set is fresh, in memory alone, until its blob is entered in the catalog.

    Arguments:
        database: of the catalog.
        master: unseals the keys.
    """

    def __init__(self, database: Database, master: SealingKey) -> None:
        self._database = database
        self._master = master
        self._fresh: dict[str, SealingKey] = {}

    def __getitem__(self, digest: str) -> SealingKey:
        """The key of a blob. Raises KeyError if it has none, Unsealable if the catalog was tampered with."""
        if digest in self._fresh:
            return self._fresh[digest]
        with self._database.read() as db:
            sealed = db.scalar(select(blobs.c.sealed_key).where(blobs.c.digest == digest))
        if sealed is None:
            raise KeyError(digest)
        return SealingKey(self._master.unseal(sealed, _context(digest)))

    def __setitem__(self, digest: str, key: SealingKey) -> None:
        self._fresh[digest] = key

    def __delitem__(self, digest: str) -> None:
        del self._fresh[digest]

    def __iter__(self) -> Iterator[str]:
        with self._database.read() as db:
            entered = db.scalars(select(blobs.c.digest)).all()
        return iter({*entered, *self._fresh})

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def sealed(self, digest: str) -> bytes | None:
        """A fresh key as its row shall have it; None if the blob has no fresh one."""
        key = self._fresh.get(digest)
        return None if key is None else self._master.seal(key.secret, _context(digest))

    def settle(self) -> None:
        """Lets go of the fresh keys: their blobs are entered by now, or gone."""
        self._fresh.clear()


def data_keys(keys: Mapping[str, SealingKey] | None, digests: Iterable[str]) -> dict[str, SealingKey] | None:
    """The keys of some blobs, those that there are; None in a plain directory."""
    return None if keys is None else {digest: keys[digest] for digest in digests if digest in keys}


def encrypt(db: Connection, master: SealingKey) -> None:
    """Makes a directory that is new an encrypted one."""
    db.execute(insert(encryption).values(proof=master.seal(b"", _PROOF)))


def unlock(db: Connection, directory: Path, master: SealingKey | None) -> None:
    """Sees that a directory is encrypted by a key, or plain if there is none. Raises WrongKey."""
    proof = db.scalar(select(encryption.c.proof))
    if proof is None and master is not None:
        raise WrongKey(
            f"the data directory {directory} is not encrypted, and a key was given; start without one, or choose a new "
            "directory and import the memories of this one there (memoryctl export, memoryctl import)"
        )
    if proof is not None and master is None:
        raise WrongKey(f"the data directory {directory} is encrypted; give its key {_HOW}")
    if proof is not None and master is not None:
        try:
            master.unseal(proof, _PROOF)
        except Unsealable:
            raise WrongKey(
                f"the data directory {directory} was encrypted by another key; give that one {_HOW}"
            ) from None


def reseal(db: Connection, old: SealingKey, new: SealingKey) -> int:
    """Has another key seal every data key; the blobs stay as they are. Returns how many data keys there are."""
    rows = db.execute(select(blobs.c.digest, blobs.c.sealed_key)).all()
    for digest, sealed in rows:
        again = new.seal(old.unseal(sealed, _context(digest)), _context(digest))
        db.execute(update(blobs).where(blobs.c.digest == digest).values(sealed_key=again))
    db.execute(update(encryption).values(proof=new.seal(b"", _PROOF)))
    return len(rows)


def _context(digest: str) -> str:
    return f"the data key of blob {digest}"
