"""The agent's tasks and their last known statuses: `STATE/agent/tasks.db`, SQLite, 0600. Blocking; for a thread."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol, Self

import apsw
import msgspec

from swarmd.errors import Invalid
from swarmd.model import Task, TaskStatus
from swarmd.storage.database import check_structure, open_database, storage_errors
from swarmd.storage.durable_files import make_private_directory
from swarmd.storage.errors import StorageDamaged
from swarmd.storage.quarantine import quarantine
from swarmd.wire import codec

log = logging.getLogger(__name__)

APPLICATION_ID: Final = 0x5357544B  # "SWTK"
SCHEMA_VERSION: Final = 1
SCHEMA: Final = "CREATE TABLE task (id TEXT PRIMARY KEY, definition BLOB NOT NULL, status BLOB) STRICT, WITHOUT ROWID"

_PUT: Final = (
    "INSERT INTO task (id, definition) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET definition = excluded.definition"
)


class TaskStorage(Protocol):
    """What `TaskStore` and `MemoryTaskStore` share."""

    def load(self) -> tuple[Task, ...]:
        """All tasks."""
        ...

    def put(self, tasks: Iterable[Task]) -> None:
        """Store definitions."""

    def put_status(self, updates: Iterable[tuple[str, TaskStatus]]) -> None:
        """Store statuses."""

    def remove(self, task_ids: Iterable[str]) -> None:
        """Forget tasks."""

    def close(self) -> None:
        """Close."""


class TaskStore:
    """What this node was told to run. One thread at a time; every change is durable when its call returns."""

    def __init__(self, path: Path, db: apsw.Connection) -> None:
        """Use `open`."""
        self._path = path
        self._db = db

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open or create. A file that is no task store is moved aside (`.damaged-<n>`) and begun anew.

        The tasks themselves live on: the dispatcher sends their definitions again. Raises `FailedPrecondition` if a
        newer swarmd wrote the file, `StorageFailed` if the disk refuses.
        """
        make_private_directory(path.parent)
        try:
            return cls(path, _open_checked(path))
        except StorageDamaged as error:
            log.error("the agent's tasks are unreadable, moved to %s: %s", _move_aside(path), error)
        return cls(path, _open_checked(path))

    def load(self) -> tuple[Task, ...]:
        """All tasks by id, each with its stored status merged in. One that cannot be read is logged and left out."""
        with storage_errors(self._path):
            rows = self._db.execute("SELECT id, definition, status FROM task ORDER BY id").fetchall()
        return tuple(task for row in rows if (task := _read_task(*row)) is not None)

    def put(self, tasks: Iterable[Task]) -> None:
        """Store definitions durably; a status already stored is kept."""
        rows = [(task.id, codec.encode(task)) for task in tasks]
        self._change(_PUT, rows)

    def put_status(self, updates: Iterable[tuple[str, TaskStatus]]) -> None:
        """Store statuses durably; unknown tasks are ignored."""
        rows = [(codec.encode(status), task_id) for task_id, status in updates]
        self._change("UPDATE task SET status = ? WHERE id = ?", rows)

    def remove(self, task_ids: Iterable[str]) -> None:
        """Forget tasks."""
        self._change("DELETE FROM task WHERE id = ?", [(task_id,) for task_id in task_ids])

    def close(self) -> None:
        """Close the file."""
        with storage_errors(self._path):
            self._db.close()

    def _change(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        if not rows:
            return
        with storage_errors(self._path), _transaction(self._db):
            self._db.executemany(statement, rows).fetchall()


@contextmanager
def _transaction(db: apsw.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _open_checked(path: Path) -> apsw.Connection:
    db = open_database(path, application_id=APPLICATION_ID, schema_version=SCHEMA_VERSION, schema=SCHEMA)
    try:
        check_structure(db, path)
        with storage_errors(path):
            db.execute("SELECT id, definition, status FROM task LIMIT 1").fetchall()
    except BaseException:
        db.close(force=True)
        raise
    return db


def _move_aside(path: Path) -> Path:
    return quarantine(path, companions=("-wal", "-shm", "-journal"))


def _read_task(task_id: Any, definition: Any, status: Any) -> Task | None:
    try:
        task = codec.decode(definition, Task)
        return task if status is None else msgspec.structs.replace(task, status=codec.decode(status, TaskStatus))
    except (Invalid, TypeError) as error:
        # One bad row must not take the others' processes from the agent; the dispatcher sends this task again.
        log.error("stored task %s is unreadable: %s", task_id, error)
        return None
