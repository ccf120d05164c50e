"""SQLite as this package uses it: opening, recognising our files, and telling damage from a disk that refuses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from swarmd.errors import FailedPrecondition
from swarmd.storage.durable_files import PRIVATE_FILE, sync_directory
from swarmd.storage.errors import StorageDamaged, StorageFailed, StorageFull, refused

_DAMAGE: Final = (
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.FormatError,
    apsw.MismatchError,
    apsw.SQLError,  # every statement here is fixed: it fails only if the tables are not ours
    UnicodeDecodeError,
)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into `StorageDamaged` (the bytes are wrong) or `StorageFailed` (the disk refused;
    `StorageFull` if for want of space)."""
    try:
        yield
    except _DAMAGE as error:
        raise StorageDamaged(f"{path}: {error}") from error
    except apsw.FullError as error:
        raise StorageFull(f"{path}: {error}") from error
    except OSError as error:
        raise refused(f"{path}: {error}", error) from error
    except apsw.Error as error:
        raise StorageFailed(f"{path}: {error}") from error


def open_database(path: Path, *, application_id: int, schema_version: int, schema: str) -> apsw.Connection:
    """A connection to our file, made (0600) if it is missing or empty; WAL, synchronous=FULL, ours alone.

    Raises `StorageDamaged` if it is something else, `FailedPrecondition` if a newer swarmd wrote it, `StorageFailed`
    if the disk refuses or another process has it open.
    """
    with storage_errors(path):
        _create(path)
        db = apsw.Connection(os.fspath(path))
        try:
            # Exclusive before the first access: no shared memory file, fewer system calls a commit.
            db.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
            if db.execute("PRAGMA journal_mode=WAL").fetchall() != [("wal",)]:
                raise StorageFailed(f"{path}: this file system has no room for a write-ahead log")
            db.execute("PRAGMA synchronous=FULL").fetchall()
            _recognise(db, path, application_id, schema_version, schema)
        except BaseException:
            db.close(force=True)
            raise
    return db


def check_structure(db: apsw.Connection, path: Path) -> None:
    """Raise `StorageDamaged` unless the pages of the file form the trees that they should."""
    with storage_errors(path):
        findings = db.execute("PRAGMA quick_check(1)").fetchall()
    if findings != [("ok",)]:
        raise StorageDamaged(f"{path}: {findings[0][0] if findings else 'no answer from the check'}")


def _create(path: Path) -> None:
    """Make the file ourselves: SQLite would take the mode from the umask and not sync the name."""
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_FILE))
        sync_directory(path.parent)
    # Without this a file of an earlier, more open umask would stay readable; SQLite gives WAL files the same mode.
    path.chmod(PRIVATE_FILE)


def _recognise(db: apsw.Connection, path: Path, application_id: int, schema_version: int, schema: str) -> None:
    found = (_pragma(db, "application_id"), _pragma(db, "user_version"))
    if found == (application_id, schema_version):
        return
    if found == (0, 0) and not db.execute("SELECT 1 FROM sqlite_schema").fetchall() and _pragma(db, "page_count") <= 1:
        # In one transaction, so a crash leaves an empty file or a complete one.
        db.execute(
            f"BEGIN IMMEDIATE; {schema}; PRAGMA application_id={application_id}; "
            f"PRAGMA user_version={schema_version}; COMMIT"
        ).fetchall()
        return
    if found[0] == application_id and found[1] > schema_version:
        raise FailedPrecondition(
            f"{path} was written by a newer swarmd (format {found[1]}, this one reads {schema_version})",
            hint="start the newer swarmd again",
        )
    raise StorageDamaged(f"{path} is no file of ours (application id {found[0]}, format {found[1]})")


def _pragma(db: apsw.Connection, name: str) -> int:
    (value,) = db.execute(f"PRAGMA {name}").fetchall()[0]
    assert isinstance(value, int)
    return value
