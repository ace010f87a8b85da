"""The tables of the catalog. A change of any of them raises `VERSION`, which older servers refuse; `migration` follows.

Of a manifest each part is kept once: what is the same in all revisions in `memories`, each learned task in `entries`. A
task is in every revision from its first one on until it is forgotten, and then those revisions go. So revision r has
the entries whose first revision is at most r, and a commit writes a handful of rows, however many tasks there are.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

VERSION = 2

metadata = MetaData()

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

blobs = Table(
    "blobs",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("sealed_key", LargeBinary),  # in an encrypted directory: the blob's own key, sealed by the master key
)

encryption = Table(  # one row in an encrypted directory, none in a plain one
    "encryption",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("proof", LargeBinary, nullable=False),
)

memories = Table(
    "memories",
    metadata,
    Column("name", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("options", JSON, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("base", ForeignKey(blobs.c.digest), index=True),
    Column("created_unix_ms", BigInteger, nullable=False),
)

revisions = Table(
    "revisions",
    metadata,
    Column("memory", ForeignKey(memories.c.name, ondelete="CASCADE"), primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("shared", JSON, nullable=False),  # role -> digest
    Column("digest", String(64), nullable=False),  # of all that the revision consists of
    Column("created_unix_ms", BigInteger, nullable=False),
)

entries = Table(
    "entries",
    metadata,
    Column("memory", ForeignKey(memories.c.name, ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),  # order of commits within the memory
    Column("task", String, nullable=False),
    Column("first_revision", Integer, nullable=False),  # of those that are left
    Column("entry", Text, nullable=False),
    Column("digest", String(64), nullable=False),  # of the entry's text
    Column("blob", ForeignKey(blobs.c.digest), nullable=False, index=True),
)

shared_blobs = Table(  # made anew with each revision, such as a solver: kept for recent ones only
    "shared_blobs",
    metadata,
    Column("memory", String, primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("digest", ForeignKey(blobs.c.digest), primary_key=True, index=True),
    ForeignKeyConstraint(["memory", "revision"], [revisions.c.memory, revisions.c.revision], ondelete="CASCADE"),
)

tasks = Table(
    "tasks",
    metadata,
    Column("memory", ForeignKey(memories.c.name, ondelete="CASCADE"), primary_key=True),
    Column("task", String, primary_key=True),
    Column("position", Integer, nullable=False),  # order of admission within the memory
    Column("state", String, nullable=False),
    Column("classes", JSON, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("digest", String, nullable=False),
    Column("error", Text, nullable=False),
    Column("error_reason", String, nullable=False),
    Column("quality", Float),
    Column("steps", BigInteger, nullable=False),
    Column("learn_seconds", Float, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("created_unix_ms", BigInteger, nullable=False),
    Column("finished_unix_ms", BigInteger, nullable=False),
)
