"""One SQLite file and its transactions: durable when they end, and nothing of what they delete stays readable."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event


class Database:
    """Transactions on a file, from any thread; each blocks for a disk sync when it writes.

    Arguments:
        path: the database file; made with mode 0600 if it is not there.
    """

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)
        self.path = path
        self._engine = _engine(path)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the file."""
        with self._engine.connect() as db, db.begin():
            yield db

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may write; it is undone if the block raises."""
        # Taking the write lock first keeps two transactions from reading the same state and then both changing it.
        with self._engine.connect().execution_options(immediate=True) as db, db.begin():
            yield db

    def problems(self) -> list[str]:
        """What SQLite finds wrong with the file and with the references in it; nothing if all is well."""
        with self.read() as db:
            found = [text for text in db.exec_driver_sql("PRAGMA integrity_check").scalars() if text != "ok"]
            astray = db.exec_driver_sql("PRAGMA foreign_key_check").scalars()
            return [*map(str, found), *(f"a reference of {table}" for table in astray)]

    def copy_to(self, path: Path) -> None:
        """Copies the database as it is now into another file, mode 0600, which is overwritten."""
        path.touch(mode=0o600)
        with self._raw() as source, closing(sqlite3.connect(path)) as copy:
            source.backup(copy)

    def scrub(self) -> None:
        """Empties the write-ahead log, in which deleted rows can still be read; readers may put it off a little."""
        with suppress(sqlite3.Error), self._raw() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()

    def compact(self) -> None:
        """Gives free pages back to the disk; if there is no room to do so, they stay."""
        with suppress(sqlite3.Error), self._raw() as connection:
            connection.execute("VACUUM").close()
        self.scrub()

    def close(self) -> None:
        """Closes every connection."""
        self._engine.dispose()

    @contextmanager
    def _raw(self) -> Iterator[sqlite3.Connection]:
        with closing(self._engine.raw_connection()) as connection:
            assert isinstance(connection.driver_connection, sqlite3.Connection)
            yield connection.driver_connection


def _engine(path: Path) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: object) -> None:
        connection.isolation_level = None  # sqlite3 must not begin transactions of its own
        # What is deleted is overwritten with zeros, not just marked as free: names and digests of erased tasks go, too.
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(db: Connection) -> None:
        db.exec_driver_sql("BEGIN IMMEDIATE" if db.get_execution_options().get("immediate") else "BEGIN")

    return engine
