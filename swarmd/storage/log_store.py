"""One SQLite file per manager: identity, hard state, and the log as sealed runs. Blocking; for `LogWriter`'s thread.

`STATE/raft/raft.db`, WAL, synchronous=FULL. A write is durable when `write` returns.
See DESIGN.md for what the rows hold and how the loss of a whole row is noticed.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import apsw
import msgspec

from swarmd.errors import Invalid
from swarmd.raft import Entry, HardState, SnapshotMeta
from swarmd.storage.database import check_structure, open_database, storage_errors
from swarmd.storage.durable_files import make_private_directory, reserve
from swarmd.storage.errors import StorageDamaged, StorageFailed
from swarmd.storage.log_contract import LogBatch, LogIdentity, LogStorage, Resealed, StoredLog, runs_to_write
from swarmd.storage.log_writer import LogWriter
from swarmd.storage.sealing import Sealer, key_of
from swarmd.wire import codec
from swarmd.wire.raft_codec import EntryRun, decode_run, trim_run

__all__ = ["LogBatch", "LogIdentity", "LogStorage", "LogStore", "LogWriter", "StoredLog"]

log = logging.getLogger(__name__)

APPLICATION_ID: Final = 0x53574C47  # "SWLG"
SCHEMA_VERSION: Final = 1
SCHEMA: Final = (
    "CREATE TABLE record (kind INTEGER PRIMARY KEY, plain BLOB, sealed BLOB NOT NULL) STRICT; "
    "CREATE TABLE run (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, term INTEGER NOT NULL, sealed BLOB NOT NULL) "
    "STRICT"
)
WAL_PAGES_IDLE: Final = 256
"""Pages (4 KiB) in the WAL from which a checkpoint is worth an idle moment."""
WAL_PAGES_MAX: Final = 4096
"""Pages in the WAL (17 MB) at which a write checkpoints itself, whoever waits."""
WAL_PAGE_BYTES: Final = 4096 + 24
RESEAL_ROWS: Final = 64
RESEAL_BYTES: Final = 128 << 10
"""One step of sealing anew ends at so many rows or sealed bytes: a commit behind it waits for about 2 ms."""

_IDENTITY: Final = 1
_HARD_STATE: Final = 2
_SNAPSHOT: Final = 3
_RUN: Final = struct.Struct(">QQQ")


T = TypeVar("T")


class _Tail(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The hard state, and where snapshot and log end: a row that vanished is noticed even if it was the last."""

    term: int
    voted_for: int
    commit: int
    snapshot: int
    last: int


class LogStore:
    """The file. Not thread-safe: one thread at a time."""

    def __init__(self, path: Path, db: apsw.Connection, sealer: Sealer) -> None:
        """Use `open`."""
        self._path = path
        self._db = db
        self._sealer = sealer
        self._failure: Exception | None = None
        self._wal_pages = 0
        self._snapshot = self._read_record(_SNAPSHOT, SnapshotMeta) or SnapshotMeta()
        tail = self._read_record(_HARD_STATE, _Tail) or _Tail(0, 0, 0, 0, 0)
        if tail.snapshot != self._snapshot.index:
            raise StorageDamaged(f"{path}: the snapshot is {self._snapshot.index}, and should be {tail.snapshot}")
        self._hard_state = HardState(term=tail.term, voted_for=tail.voted_for, commit=tail.commit)
        self._last = tail.last

    @classmethod
    def open(cls, path: Path, sealer: Sealer) -> Self:
        """Open or create (0600). Raises `StorageDamaged` (see `storage.errors`) if it is no log of ours, or not
        `sealer`'s; `FailedPrecondition` if a newer swarmd wrote it; `StorageFailed`. Makes the directory (0700)."""
        make_private_directory(path.parent)
        db = _open(path)
        try:
            with storage_errors(path):
                store = cls(path, db, sealer)
                db.set_wal_hook(store._committed)
        except BaseException:
            db.close(force=True)
            raise
        return store

    @classmethod
    def read_identity(cls, path: Path) -> LogIdentity | None:
        """Whose log this says it is, or None if there is no file or it was never initialised.

        Needs no key, because the member id in it is what a `Sealer` is made for; `load` checks that it was not forged.
        """
        if not path.exists():
            return None
        db = _open(path)
        try:
            with storage_errors(path):
                records: dict[Any, Any] = dict(db.execute("SELECT kind, plain FROM record"))
            if records and _IDENTITY not in records:
                raise StorageDamaged(f"{path} does not say whose log it is")
            return _decode(records[_IDENTITY], LogIdentity) if records else None
        finally:
            db.close(force=True)

    @property
    def sealer(self) -> Sealer:
        """What seals and opens its rows, and the snapshots beside it."""
        return self._sealer

    def initialise(self, identity: LogIdentity) -> None:
        """Say whose log this is, once and durably; the same identity again is fine, another one a `ValueError`."""
        self._check_usable()
        if (known := self._identity()) is not None:
            if known != identity:
                raise ValueError(f"this is the log of member {known.member_id} of {known.swarm_id}")
            return
        plain = codec.encode(identity)
        self._durably(lambda: self._put_record(_IDENTITY, plain, readable=True))

    def load(self) -> StoredLog:
        """Everything, each run's seal checked. A bad seal raises `StorageDamaged`: never cut (foundations: Damage)."""
        self._check_usable()
        check_structure(self._db, self._path)
        with storage_errors(self._path):
            entries = self._load_entries()
            return StoredLog(
                identity=self._identity(), hard_state=self._hard_state, snapshot=self._snapshot, entries=entries
            )

    def write(self, batch: LogBatch) -> None:
        """Make `batch` durable in one transaction. Raises `StorageFailed`, `StorageDamaged`; see `LogStorage`."""
        self._check_usable()
        runs = runs_to_write(batch.runs, last=self._last, snapshot=self._snapshot)
        hard_state = batch.hard_state or self._hard_state
        last = runs[-1].last if runs else self._last

        def change() -> None:
            if runs and runs[0].first <= self._last:
                self._cut(runs[0].first)
            for run in runs:
                self._insert(run)
            self._put_tail(hard_state, self._snapshot.index, last)

        self._durably(change)
        self._hard_state, self._last = hard_state, last

    def record_snapshot(self, meta: SnapshotMeta, *, keep_from: int) -> None:
        """Remember a durable snapshot and drop runs that it makes superfluous; see `LogStorage`."""
        self._check_usable()
        if meta.index < self._snapshot.index:
            return
        agrees = meta.term == (self._snapshot.term if meta.index == self._snapshot.index else self._term_at(meta.index))
        last = self._last if agrees else meta.index

        def change() -> None:
            if agrees:
                # Never more than the snapshot covers, whatever was asked for: that would leave a gap.
                bound = min(keep_from, meta.index + 1)
                self._db.execute("DELETE FROM run WHERE last < ?", (bound,))
            else:
                self._db.execute("DELETE FROM run")
            self._put_record(_SNAPSHOT, codec.encode(meta))
            self._put_tail(self._hard_state, meta.index, last)

        self._durably(change)
        self._snapshot, self._last = meta, last

    def reseal(self, after: int) -> Resealed:
        """Seal anew what names an older data key among the next rows; see `LogStorage`."""
        self._check_usable()
        with storage_errors(self._path):
            rows, is_last = self._rows_after(after)
            runs = [self._open_run(row) for row in rows if self._is_old(row[3])]
            kinds = [] if after else self._old_records()

        def change() -> None:
            for run in runs:
                sealed = self._sealer.seal(run.body, _name_of_run(run.first, run.last, run.term))
                self._db.execute("UPDATE run SET sealed = ? WHERE first = ?", (sealed, run.first))
            for kind, content, is_readable in kinds:
                self._put_record(kind, content, readable=is_readable)

        if runs or kinds:
            self._durably(change)
        return Resealed(changed=len(runs) + len(kinds), after=None if is_last else rows[-1][0])

    def prepare(self) -> None:
        """Give the WAL its full size, so that commits overwrite it in place: that halves the time of a commit, since
        a file that grows must have its length synced too (DESIGN.md). Takes 20-90 ms; without room it is left out."""
        self._check_usable()
        try:
            reserve(Path(f"{self._path}-wal"), WAL_PAGES_MAX * WAL_PAGE_BYTES)
        except OSError as error:
            log.warning("%s: no room for a write-ahead log of full size, commits are slower: %s", self._path, error)

    def settle(self) -> None:
        """Write anew, synced, what an earlier life may only seem to have written, and prove that writes are taken.

        After a failed sync the kernel still shows pages that are not on the disk, and a fresh open reads them. Raises
        `StorageFailed`.
        """
        self._check_usable()
        self._checkpoint(apsw.SQLITE_CHECKPOINT_RESTART)
        self.write(LogBatch())

    def tidy(self) -> None:
        """Checkpoint if that is worth it: better in an idle moment than inside somebody's commit."""
        if self._failure is None and self._wal_pages >= WAL_PAGES_IDLE:
            self._checkpoint()

    def close(self) -> None:
        """Checkpoint and close; if it raises it is closed too, so that the next open finds it free."""
        with storage_errors(self._path):
            try:
                self._db.close()
            except BaseException:
                self._db.close(force=True)
                raise

    # -- transactions ----------------------------------------------------------------------------------------------

    def _check_usable(self) -> None:
        if self._failure is not None:
            # After a failed fsync nobody knows what the kernel still holds: only a fresh open does.
            raise StorageFailed(f"{self._path}: not used any more after: {self._failure}") from self._failure

    def _durably(self, change: Callable[[], None]) -> None:
        """Run `change` in a transaction of its own. On any error the file is not used any more."""
        try:
            with storage_errors(self._path):
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    change()
                    self._db.execute("COMMIT")
                except BaseException:
                    self._roll_back()
                    raise
        except (StorageDamaged, StorageFailed) as error:
            self._failure = error
            raise
        if self._wal_pages >= WAL_PAGES_MAX:
            self._checkpoint()

    def _roll_back(self) -> None:
        # SQLite has rolled back by itself after most errors (SQLITE_FULL, SQLITE_IOERR).
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _committed(self, _db: apsw.Connection, _name: str, pages: int) -> int:
        """SQLite's hook after each commit. Having one switches its own checkpoints off."""
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def _checkpoint(self, mode: int = apsw.SQLITE_CHECKPOINT_PASSIVE) -> None:
        try:
            with storage_errors(self._path):
                self._db.wal_checkpoint(mode=mode)
        except (StorageDamaged, StorageFailed) as error:
            self._failure = error
            raise
        self._wal_pages = 0

    # -- rows ------------------------------------------------------------------------------------------------------

    def _insert(self, run: EntryRun) -> None:
        sealed = self._sealer.seal(run.body, _name_of_run(run.first, run.last, run.term))
        self._db.execute("INSERT INTO run VALUES (?, ?, ?, ?)", (run.first, run.last, run.term, sealed))

    def _cut(self, first: int) -> None:
        """Remove all entries from `first` on; a run that reaches across it keeps its beginning."""
        crossing = self._db.execute(
            "SELECT first, last, term, sealed FROM run WHERE first < ? AND last >= ?", (first, first)
        ).fetchall()
        self._db.execute("DELETE FROM run WHERE last >= ?", (first,))
        for row in crossing:
            self._insert(_trimmed(self._open_run(row), first - 1))

    def _open_run(self, row: tuple[Any, ...]) -> EntryRun:
        first, last, term, sealed = row
        if not (type(first) is type(last) is type(term) is int and 0 < first <= last and term >= 0):
            raise StorageDamaged(f"{self._path}: a row is no run of entries")
        try:
            return EntryRun(first, last, term, self._sealer.open(sealed, _name_of_run(first, last, term)))
        except StorageDamaged as error:
            raise StorageDamaged(f"{self._path}: entries {first}..{last}: {error}") from error

    def _rows_after(self, index: int) -> tuple[list[Any], bool]:
        """The next rows, and whether they are the last."""
        cursor = self._db.cursor()
        rows: list[Any] = []
        size = 0
        try:
            for row in cursor.execute(
                "SELECT first, last, term, sealed FROM run WHERE first > ? ORDER BY first LIMIT ?",
                (index, RESEAL_ROWS + 1),
            ):
                if len(rows) == RESEAL_ROWS or size >= RESEAL_BYTES:
                    return rows, False
                rows.append(row)
                size += len(row[3])
        finally:
            cursor.close()
        return rows, True

    def _is_old(self, sealed: bytes) -> bool:
        return key_of(sealed) != self._sealer.current_key

    def _old_records(self) -> list[tuple[int, bytes, bool]]:
        """Kind, content, and whether it is readable without a key, of the records that name an older key."""
        rows: list[Any] = self._db.execute("SELECT kind, plain, sealed FROM record").fetchall()
        return [
            (kind, self._sealer.open(sealed, _name_of_record(kind)), plain is not None)
            for kind, plain, sealed in rows
            if self._is_old(sealed)
        ]

    def _load_entries(self) -> tuple[Entry, ...]:
        entries: list[Entry] = []
        last: int | None = None
        for row in self._db.execute("SELECT first, last, term, sealed FROM run ORDER BY first"):
            run = self._open_run(row)
            follows = run.first <= self._snapshot.index + 1 if last is None else run.first == last + 1
            if not follows:
                raise StorageDamaged(f"{self._path}: entries before {run.first} are missing")
            entries += _decode_run(run)
            last = run.last
        if (self._snapshot.index if last is None else last) != self._last:
            raise StorageDamaged(f"{self._path}: the log ends at {last}, and should end at {self._last}")
        return tuple(entries)

    def _term_at(self, index: int) -> int | None:
        with storage_errors(self._path):
            row = self._db.execute("SELECT term FROM run WHERE first <= ? AND last >= ?", (index, index)).fetchone()
        return None if row is None else row[0]

    def _put_tail(self, state: HardState, snapshot: int, last: int) -> None:
        tail = _Tail(state.term, state.voted_for, state.commit, snapshot, last)
        self._put_record(_HARD_STATE, codec.encode(tail))

    def _put_record(self, kind: int, content: bytes, *, readable: bool = False) -> None:
        row = (kind, content if readable else None, self._sealer.seal(content, _name_of_record(kind)))
        self._db.execute("INSERT OR REPLACE INTO record VALUES (?, ?, ?)", row)

    def _read_record(self, kind: int, type_: type[Any]) -> Any:
        row = self._db.execute("SELECT plain, sealed FROM record WHERE kind = ?", (kind,)).fetchone()
        if row is None:
            return None
        content = self._sealer.open(row[1], _name_of_record(kind))
        if row[0] is not None and row[0] != content:
            raise StorageDamaged(f"{self._path}: record {kind} is not what was sealed")
        return _decode(content, type_)

    def _identity(self) -> LogIdentity | None:
        with storage_errors(self._path):
            identity: LogIdentity | None = self._read_record(_IDENTITY, LogIdentity)
        return identity


def _open(path: Path) -> apsw.Connection:
    return open_database(path, application_id=APPLICATION_ID, schema_version=SCHEMA_VERSION, schema=SCHEMA)


def _name_of_run(first: int, last: int, term: int) -> bytes:
    return b"log run" + _RUN.pack(term, first, last)


def _name_of_record(kind: int) -> bytes:
    return b"log record" + bytes((kind,))


def _decode(content: Any, type_: type[T]) -> T:
    try:
        return codec.decode(content, type_)
    except (Invalid, TypeError) as error:
        raise StorageDamaged(f"a record is no {type_.__name__}: {error}") from error


def _decode_run(run: EntryRun) -> tuple[Entry, ...]:
    try:
        return decode_run(run)
    except Invalid as error:
        raise StorageDamaged(f"entries {run.first}..{run.last} are sealed and yet none: {error}") from error


def _trimmed(run: EntryRun, last: int) -> EntryRun:
    try:
        return trim_run(run, last)
    except Invalid as error:
        raise StorageDamaged(f"entries {run.first}..{run.last} are sealed and yet none: {error}") from error
