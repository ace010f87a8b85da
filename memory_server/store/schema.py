"""The tables of the catalog. A change of any of them raises `VERSION`, which older servers refuse."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

VERSION = 1

metadata = MetaData()

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

memories = Table(
    "memories",
    metadata,
    Column("name", String, primary_key=True),
    Column("created_unix_ms", BigInteger, nullable=False),
)

revisions = Table(
    "revisions",
    metadata,
    Column("memory", ForeignKey(memories.c.name, ondelete="CASCADE"), primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("manifest", Text, nullable=False),
    Column("created_unix_ms", BigInteger, nullable=False),
)

blobs = Table(
    "blobs",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("bytes", BigInteger, nullable=False),
)

revision_blobs = Table(
    "revision_blobs",
    metadata,
    Column("memory", String, primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("digest", ForeignKey(blobs.c.digest), primary_key=True, index=True),
    Column(
        "shared", Boolean, nullable=False
    ),  # made anew with each revision, such as a solver: kept for recent ones only
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
