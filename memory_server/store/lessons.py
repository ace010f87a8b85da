"""The records of tasks, inside one transaction of the catalog."""

from dataclasses import asdict

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update
from sqlalchemy.engine import RowMapping

from dgm_core.manifest import TaskEntry
from memory_server.errors import UnknownTask
from memory_server.store.records import TaskRecord, TaskState
from memory_server.store.schema import entries, tasks

_RECORDS = select(tasks, func.json_extract(entries.c.entry, "$.consolidated").label("consolidated")).outerjoin(
    entries, (entries.c.memory == tasks.c.memory) & (entries.c.task == tasks.c.task)
)
"""The records, with what the entries of those that are learned say of them."""


def find(db: Connection, memory: str, task: str) -> TaskRecord | None:
    """One task, None if there is no such one."""
    row = db.execute(_RECORDS.where(_is(memory, task))).mappings().one_or_none()
    return None if row is None else _record(row)


def existing(db: Connection, memory: str, task: str) -> TaskRecord:
    """One task of a memory that exists. Raises UnknownTask."""
    record = find(db, memory, task)
    if record is None:
        known = select(tasks.c.task).where(tasks.c.memory == memory).order_by(tasks.c.position)
        raise UnknownTask(memory, task, db.scalars(known))
    return record


def of_memory(db: Connection, memory: str) -> list[TaskRecord]:
    """The tasks of a memory in the order of admission."""
    query = _RECORDS.where(tasks.c.memory == memory).order_by(tasks.c.position)
    return [_record(row) for row in db.execute(query).mappings()]


def add(db: Connection, record: TaskRecord) -> None:
    """Enters a task behind the others of its memory, in place of one of the same name."""
    remove(db, record.memory, record.task)
    last = db.scalar(select(func.max(tasks.c.position)).where(tasks.c.memory == record.memory))
    row = {key: value for key, value in asdict(record).items() if key in tasks.c}
    db.execute(insert(tasks).values(row | {"position": (last or 0) + 1}))


def change(db: Connection, memory: str, task: str, **columns: object) -> TaskRecord:
    """Sets columns of a task and gives it as it is then. Raises UnknownTask."""
    db.execute(update(tasks).where(_is(memory, task)).values(**columns))
    return existing(db, memory, task)


def remove(db: Connection, memory: str, task: str) -> None:
    """Removes the record of a task, if there is one."""
    db.execute(delete(tasks).where(_is(memory, task)))


def moved(db: Connection, memory: str, since: int, revision: int) -> None:
    """Says that the tasks whose first revision was a certain one or later are first held by another one now."""
    later = (tasks.c.memory == memory) & (tasks.c.state == TaskState.LEARNED.value) & (tasks.c.revision >= since)
    db.execute(update(tasks).where(later).values(revision=revision))


def fail_unfinished(db: Connection, error: str, reason: str, now: int) -> int:
    """Fails every task that is not in a final state; returns how many there were."""
    final = [state.value for state in TaskState if state.final]
    values = {"state": TaskState.FAILED.value, "error": error, "error_reason": reason, "finished_unix_ms": now}
    return db.execute(update(tasks).where(tasks.c.state.not_in(final)).values(values)).rowcount


def learn(db: Connection, memory: str, task: str, entry: TaskEntry, revision: int, now: int) -> TaskRecord:
    """Says that a task is learned and which revision is the first to hold it. Raises UnknownTask."""
    own = {"quality": entry.quality, "steps": entry.steps, "learn_seconds": entry.seconds}
    state = TaskState.LEARNED.value
    return change(db, memory, task, **own, state=state, revision=revision, finished_unix_ms=now)


def _is(memory: str, task: str) -> ColumnElement[bool]:
    return (tasks.c.memory == memory) & (tasks.c.task == task)


def _record(row: RowMapping) -> TaskRecord:
    columns = {key: value for key, value in row.items() if key != "position"}
    known = {"state": TaskState(row["state"]), "classes": tuple(row["classes"])}
    return TaskRecord(**{**columns, **known, "consolidated": bool(row["consolidated"])})
