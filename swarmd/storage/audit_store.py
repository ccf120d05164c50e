"""The audit trail of one manager: `STATE/raft/audit.db`, SQLite, 0600, every record sealed. Blocking; for one thread.

Bounded by count and bytes, oldest dropped. It need not be synced at each write: what a power cut takes is derived from
the log again, whose snapshots wait for `write(durably=True)`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

import apsw
import msgspec

from swarmd.errors import FailedPrecondition, Invalid
from swarmd.storage.database import check_structure, open_database, storage_errors
from swarmd.storage.durable_files import make_private_directory
from swarmd.storage.errors import StorageDamaged, StorageFailed
from swarmd.storage.quarantine import quarantine
from swarmd.storage.sealing import Sealer, key_of
from swarmd.wire import codec
from swarmd.wire.audit import DAMAGED, AuditRecord, chained

log = logging.getLogger(__name__)

APPLICATION_ID: Final = 0x53574155  # "SWAU"
SCHEMA_VERSION: Final = 1
SCHEMA: Final = (
    "CREATE TABLE record (sequence INTEGER PRIMARY KEY, sealed BLOB NOT NULL) STRICT; "
    "CREATE TABLE note (sequence INTEGER PRIMARY KEY, sealed BLOB NOT NULL) STRICT; "
    "CREATE TABLE mark (id INTEGER PRIMARY KEY CHECK (id = 1), sealed BLOB NOT NULL) STRICT"
)
RECORDS_MAX: Final = 100_000
BYTES_MAX: Final = 64 << 20
NOTES_MAX: Final = 10_000
"""Of the manager's own notes; their bytes are bounded by as much of `BYTES_MAX`."""
STEP_ROWS: Final = 256
STEP_BYTES: Final = 256 << 10
"""One page of reading, one step of sealing anew."""
_MARK_NAME: Final = b"audit mark"


class Part(StrEnum):
    """What came from the log, equal on every manager; and what this manager noticed by itself."""

    LOG = "record"
    OWN = "note"


class _Mark(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Up to which entry the log was looked through, and the chain of the newest record."""

    index: int
    chain: str


class Row(msgspec.Struct, frozen=True, gc=False):
    """A record and its place: places count up, also across what was dropped."""

    sequence: int
    record: AuditRecord


class _Extent:
    """What of a part is kept."""

    def __init__(self, first: int, last: int, size: int) -> None:
        self.first = first
        self.last = last
        self.size = size


class AuditStore:
    """The file. After an error of the disk it is to be closed and opened anew."""

    def __init__(
        self,
        path: Path,
        db: apsw.Connection,
        sealer: Sealer,
        *,
        records_max: int = RECORDS_MAX,
        notes_max: int = NOTES_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        """Use `open`."""
        self._path = path
        self._db = db
        self._sealer = sealer
        self._rows_max = {Part.LOG: records_max, Part.OWN: notes_max}
        self._bytes_max = {Part.LOG: bytes_max, Part.OWN: max(1, bytes_max * notes_max // records_max)}
        with storage_errors(path):
            self._extents = {part: self._measure(part) for part in Part}
            self._mark = self._read_mark()

    @classmethod
    def open(cls, path: Path, sealer: Sealer, **bounds: int) -> Self:
        """Open or create. Raises `StorageDamaged` if it is no trail of ours, or not `sealer`'s; `StorageFailed`, also
        if a newer swarmd wrote it."""
        make_private_directory(path.parent)
        try:
            db = open_database(path, application_id=APPLICATION_ID, schema_version=SCHEMA_VERSION, schema=SCHEMA)
        except FailedPrecondition as error:
            raise StorageFailed(str(error)) from error
        try:
            check_structure(db, path)
            with storage_errors(path):
                db.execute("PRAGMA synchronous=NORMAL").fetchall()
                return cls(path, db, sealer, **bounds)
        except BaseException:
            db.close(force=True)
            raise

    @property
    def index(self) -> int:
        """Up to which entry of the log it tells; 0: it is new."""
        return self._mark.index

    def write(self, records: Sequence[AuditRecord], notes: Sequence[AuditRecord], index: int, *, durably: bool) -> None:
        """Add records of the log, chained here, and notes; it tells up to entry `index` then. All or nothing.

        Raises `StorageDamaged`, `StorageFailed`; `durably`: synced when it returns, with all that was written before.
        """
        chain = self._mark.chain
        sealed: dict[Part, list[bytes]] = {Part.LOG: [], Part.OWN: []}
        for part, added in ((Part.LOG, records), (Part.OWN, notes)):
            sequence = self._extents[part].last
            for record in added:
                sequence += 1
                if part is Part.LOG:
                    record = chained(chain, record)
                    chain = record.chain
                sealed[part].append(self._sealer.seal(codec.encode(record), _name_of(part, sequence)))
        mark = _Mark(max(index, self._mark.index), chain)
        after = dict(self._extents)
        with storage_errors(self._path), _transaction(self._db):
            for part, blobs in sealed.items():
                if blobs:
                    after[part] = self._append(part, blobs)
            self._put_mark(mark)
        self._extents, self._mark = after, mark
        if durably:
            with storage_errors(self._path):
                self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def read(self, part: Part, *, after: int = 0) -> tuple[Row, ...]:
        """The next page behind the place `after`, oldest first; empty at the end."""
        return self._page(part, f"SELECT sequence, sealed FROM {part} WHERE sequence > ? ORDER BY sequence", after)

    def read_back(self, part: Part, *, before: int | None = None) -> tuple[Row, ...]:
        """The page before the place `before` (None: the newest), newest first; empty at the beginning."""
        bound = self._extents[part].last + 1 if before is None else before
        return self._page(part, f"SELECT sequence, sealed FROM {part} WHERE sequence < ? ORDER BY sequence DESC", bound)

    def reseal(self, part: Part, *, after: int = 0) -> int | None:
        """Seal anew what names an older data key among the next rows; where to go on, None at the end.

        The last step of `Part.OWN` does the file's mark too. A row that does not open becomes one that says so.
        """
        rows = self._rows(f"SELECT sequence, sealed FROM {part} WHERE sequence > ? ORDER BY sequence", after)
        old = [(sequence, blob) for sequence, blob in rows if _is_old(blob, self._sealer)]
        with storage_errors(self._path), _transaction(self._db):
            for sequence, blob in old:
                content = codec.encode(self._opened(part, sequence, blob))
                resealed = self._sealer.seal(content, _name_of(part, sequence))
                self._db.execute(f"UPDATE {part} SET sealed = ? WHERE sequence = ?", (resealed, sequence))
            if not rows and part is Part.OWN:
                self._put_mark(self._mark)
        return rows[-1][0] if rows else None

    def close(self) -> None:
        """Close, whatever the disk says."""
        try:
            self._db.close()
        except apsw.Error:
            self._db.close(force=True)

    # -- rows ------------------------------------------------------------------------------------------------------

    def _append(self, part: Part, blobs: Sequence[bytes]) -> _Extent:
        known = self._extents[part]
        first = known.last + 1
        rows = list(enumerate(blobs, start=first))
        self._db.executemany(f"INSERT INTO {part} VALUES (?, ?)", rows).fetchall()
        extent = _Extent(known.first, known.last + len(rows), known.size + sum(map(len, blobs)))
        return self._dropped(part, extent)

    def _dropped(self, part: Part, extent: _Extent) -> _Extent:
        """Drop the oldest rows beyond the bounds; the newest one stays whatever it weighs."""
        first, size = extent.first, extent.size
        rows_max, bytes_max = self._rows_max[part], self._bytes_max[part]
        if extent.last - first + 1 <= rows_max and size <= bytes_max:
            return extent
        cursor = self._db.cursor()
        for sequence, length in cursor.execute(f"SELECT sequence, length(sealed) FROM {part} ORDER BY sequence"):
            first = sequence
            if (extent.last - sequence + 1 <= rows_max and size <= bytes_max) or sequence == extent.last:
                break
            size -= length
        cursor.close()
        self._db.execute(f"DELETE FROM {part} WHERE sequence < ?", (first,))
        return _Extent(first, extent.last, size)

    def _measure(self, part: Part) -> _Extent:
        row = self._db.execute(f"SELECT min(sequence), max(sequence), sum(length(sealed)) FROM {part}").fetchone()
        return _Extent(*row) if row is not None and row[0] is not None else _Extent(1, 0, 0)

    def _page(self, part: Part, statement: str, bound: int) -> tuple[Row, ...]:
        rows = self._rows(statement, bound)
        return tuple([Row(sequence, self._opened(part, sequence, blob)) for sequence, blob in rows])

    def _rows(self, statement: str, bound: int) -> list[tuple[int, Any]]:
        found: list[tuple[int, Any]] = []
        size = 0
        with storage_errors(self._path):
            cursor = self._db.cursor()
            try:
                for sequence, blob in cursor.execute(f"{statement} LIMIT {STEP_ROWS}", (bound,)):
                    found.append((sequence, blob))
                    size += len(blob)
                    if size >= STEP_BYTES:
                        break
            finally:
                cursor.close()
        return found

    def _opened(self, part: Part, sequence: int, blob: Any) -> AuditRecord:
        try:
            return codec.decode(self._sealer.open(blob, _name_of(part, sequence)), AuditRecord)
        except (StorageDamaged, Invalid) as error:
            return AuditRecord(index=0, at=0.0, actor="", result=DAMAGED, what=f"record {sequence}: {error}")

    def _read_mark(self) -> _Mark:
        row = self._db.execute("SELECT sealed FROM mark WHERE id = 1").fetchone()
        if row is None:
            if any(extent.last for extent in self._extents.values()):
                raise StorageDamaged(f"{self._path}: it does not say how far it goes")
            return _Mark(0, "")
        try:
            mark = codec.decode(self._sealer.open(row[0], _MARK_NAME), _Mark)
        except Invalid as error:
            raise StorageDamaged(f"{self._path}: its mark is none: {error}") from error
        self._check_newest(mark)
        return mark

    def _check_newest(self, mark: _Mark) -> None:
        """Rows that vanished from the end are noticed here, those in the middle by the chain."""
        newest = self._page(
            Part.LOG, "SELECT sequence, sealed FROM record WHERE sequence >= ?", self._extents[Part.LOG].last
        )
        if (newest[-1].record.chain if newest else "") != mark.chain:
            raise StorageDamaged(f"{self._path}: it does not end with the record that was written last")

    def _put_mark(self, mark: _Mark) -> None:
        sealed = self._sealer.seal(codec.encode(mark), _MARK_NAME)
        self._db.execute("INSERT OR REPLACE INTO mark VALUES (1, ?)", (sealed,))


def open_or_begin(path: Path, sealer: Sealer, **bounds: int) -> tuple[AuditStore, str]:
    """The trail at `path`; a damaged one is moved aside (`.damaged-<n>`, one line in the log) and begun anew, and then
    the name of what was moved is told too. Raises `StorageFailed`."""
    try:
        return AuditStore.open(path, sealer, **bounds), ""
    except StorageDamaged as error:
        aside = quarantine(path, companions=("-wal", "-shm", "-journal"))
        log.error("the audit trail is damaged, moved to %s and begun anew: %s", aside, error)
    try:
        return AuditStore.open(path, sealer, **bounds), aside.name
    except StorageDamaged as error:
        raise StorageFailed(f"the audit trail cannot be begun anew: {error}") from error


def _name_of(part: Part, sequence: int) -> bytes:
    return b"audit " + part.encode() + sequence.to_bytes(8, "big")


def _is_old(blob: Any, sealer: Sealer) -> bool:
    try:
        return key_of(blob) != sealer.current_key
    except StorageDamaged:
        return True


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
