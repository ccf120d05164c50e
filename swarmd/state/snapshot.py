"""The state as a stream of bytes and back. Must not know files, peers or sealing.

The stream is a sequence of records, each a kind (1 byte), a table (1 byte, or 0), a length (4 bytes, big-endian) and
that many bytes of CBOR: the header, lists of objects by table in order of creation, when claimable sets last changed,
results of idempotent requests, the end with the running digest and a checksum of all that went before. Chunks may be
cut anywhere, so a reader depends on no writer's or transport's chunk size. Kinds are append-only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from hashlib import sha256
from itertools import islice
from struct import Struct
from typing import Any, Final

import msgspec

from swarmd.errors import Invalid
from swarmd.model import Cluster, StoredObject
from swarmd.raft import Configuration, SnapshotMeta
from swarmd.state.command import ENTRY_BYTES_MAX, TYPE_OF_TABLE, Table, decode_object
from swarmd.state.indexes import AnyIndex, Index
from swarmd.state.results import Result, Results
from swarmd.state.tables import Tables
from swarmd.wire.codec import decode, encode, loads

SNAPSHOT_FORMAT: Final = 1
CHUNK_BYTES_MAX: Final = 1 << 20
RECORD_BYTES_MAX: Final = ENTRY_BYTES_MAX + (64 << 10)
"""An object is never larger than the entry that wrote it, but for its stamps; several share a record while they fit."""

_SLICE: Final = 64
"""Objects encoded a step: about 0.5 ms."""
_SLICE_BYTES: Final = 128 << 10
"""... or about this much, if objects are large."""
_RECORD: Final = Struct(">BBI")


class _Kind(IntEnum):
    HEADER = 0
    OBJECTS = 1
    SETS = 2
    RESULTS = 3
    END = 4


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """What a snapshot is of."""

    format: int
    index: int
    term: int
    configuration: Configuration
    feature_level: tuple[str, ...] = ()


class _End(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    digest: bytes
    horizon: int
    checksum: bytes


class Capture(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The state at `index`, to be encoded or hashed later: copies of the dicts, which share the immutable objects."""

    index: int
    digest: bytes
    horizon: int
    objects: dict[Table, dict[str, StoredObject]]
    sets_changed_at: dict[str, dict[str, int]]
    results: tuple[Result, ...]

    @property
    def feature_level(self) -> tuple[str, ...]:
        """What the replicated data may use."""
        clusters = [c.feature_level for c in self.objects[Table.CLUSTER].values() if isinstance(c, Cluster)]
        return clusters[0] if clusters else ()

    def parts(self) -> Iterator[tuple[str, Iterable[Any]]]:
        """Everything in it, as labelled collections of encodable items."""
        for table, objects in self.objects.items():
            yield table.name, objects.values()
        for index, changed_at in self.sets_changed_at.items():
            yield index, changed_at.items()
        yield "results", self.results


def capture(tables: Tables, results: Results, digest: bytes) -> Capture:
    """A picture of the state in about 2 ms per 100,000 objects."""
    return Capture(
        index=tables.index,
        digest=digest,
        horizon=results.horizon,
        objects={table: dict(rows.objects) for table, rows in tables.by_table.items()},
        sets_changed_at={index.name: dict(index.changed_at) for index in tables.indexes() if index.is_versioned},
        results=results.copy(),
    )


# -- writing -----------------------------------------------------------------------------------------------------------
def encode_snapshot(capture: Capture, meta: SnapshotMeta) -> Iterator[bytes]:
    """The stream in chunks of at most `CHUNK_BYTES_MAX`; each step takes 1-2 ms, so a caller may spread it.

    Raises `ValueError` if `meta` is of another index than the capture.
    """
    if meta.index != capture.index:
        raise ValueError(f"a capture of index {capture.index} is no snapshot of index {meta.index}")
    checksum = sha256()
    for part in _parts(capture, meta):
        checksum.update(part)
        yield from _cut(part)
    end = _End(digest=capture.digest, horizon=capture.horizon, checksum=checksum.digest())
    yield _record(_Kind.END, 0, end)


def _parts(capture: Capture, meta: SnapshotMeta) -> Iterator[bytes]:
    header = Header(
        format=SNAPSHOT_FORMAT,
        index=meta.index,
        term=meta.term,
        configuration=meta.configuration,
        feature_level=capture.feature_level,
    )
    yield _record(_Kind.HEADER, 0, header)
    for table, objects in capture.objects.items():
        yield from _object_records(table, tuple(objects.values()))
    for index, changed_at in capture.sets_changed_at.items():
        for batch in _batches(changed_at.items()):
            yield _record(_Kind.SETS, 0, (index, batch))
    for results in _batches(capture.results):
        yield _record(_Kind.RESULTS, 0, results)


def _object_records(table: Table, objects: tuple[StoredObject, ...]) -> Iterator[bytes]:
    position, count = 0, 1
    while position < len(objects):
        record = _record(_Kind.OBJECTS, table, objects[position : position + count])
        if len(record) > RECORD_BYTES_MAX and count > 1:
            count //= 2
            continue
        yield record
        position += count
        count = max(1, min(_SLICE, count * _SLICE_BYTES // len(record)))


def _record(kind: _Kind, table: int, content: Any) -> bytes:
    data = encode(content)
    return _RECORD.pack(kind, table, len(data)) + data


def _batches(items: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    iterator = iter(items)
    while batch := tuple(islice(iterator, _SLICE)):
        yield batch


def _cut(part: bytes) -> Iterator[bytes]:
    for start in range(0, len(part), CHUNK_BYTES_MAX):
        yield part[start : start + CHUNK_BYTES_MAX]


# -- reading -----------------------------------------------------------------------------------------------------------
class Contents(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A whole snapshot, read and checked."""

    header: Header
    tables: Tables
    results: Results
    digest: bytes


class SnapshotReader:
    """Builds `Contents` from chunks, one at a time, so that a caller may spread it. Changes nothing else."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._checksum = sha256()
        self._header: Header | None = None
        self._end: _End | None = None
        self._tables = Tables()
        self._results: list[Result] = []
        self._versioned: dict[str, AnyIndex[Any]] = {i.name: i for i in self._tables.indexes() if i.is_versioned}

    def feed(self, chunk: bytes) -> None:
        """Read on. Raises `Invalid` if this is no snapshot that this version can read."""
        self._buffer += chunk
        position = 0
        while len(self._buffer) - position >= _RECORD.size:
            kind, table, length = _RECORD.unpack_from(self._buffer, position)
            if length > RECORD_BYTES_MAX:
                raise Invalid(f"a snapshot record of {length:,} bytes is longer than any that is written")
            end = position + _RECORD.size + length
            if end > len(self._buffer):
                break
            record = bytes(self._buffer[position:end])
            self._read(kind, table, record[_RECORD.size :])
            if kind != _Kind.END:
                self._checksum.update(record)
            position = end
        del self._buffer[:position]

    def finish(self, meta: SnapshotMeta) -> Contents:
        """The whole. Raises `Invalid` if it is incomplete, damaged or not the snapshot that `meta` says."""
        header, end = self._header, self._end
        if header is None or end is None or self._buffer:
            raise Invalid("the snapshot ends too early")
        if end.checksum != self._checksum.digest():
            raise Invalid("the snapshot's checksum is wrong")
        if (header.index, header.term) != (meta.index, meta.term):
            raise Invalid(
                f"the snapshot is of index {header.index}, term {header.term}, not of {meta.index}, {meta.term}"
            )
        for index in self._tables.indexes():
            if isinstance(index, Index) and index.is_unique and any(len(held) > 1 for held in index.holders.values()):
                raise Invalid(f"two objects in the snapshot hold one {index.name}")
            if index.is_versioned and index.changed_at.keys() != index.holders.keys():
                raise Invalid(f"the snapshot does not say when each {index.name} last changed")
        self._tables.index = header.index
        results = Results(self._results, end.horizon)
        return Contents(header=header, tables=self._tables, results=results, digest=end.digest)

    def _read(self, kind: int, table: int, data: bytes) -> None:
        if self._end is not None:
            raise Invalid("something follows the end of the snapshot")
        if (kind == _Kind.HEADER) != (self._header is None):
            raise Invalid("a snapshot begins with one header")
        match kind:
            case _Kind.HEADER:
                self._header = _read_header(data)
            case _Kind.OBJECTS:
                self._read_objects(table, data)
            case _Kind.SETS:
                name, changed = decode(data, tuple[str, tuple[tuple[str, int], ...]])
                if name not in self._versioned:
                    raise Invalid(f"the snapshot speaks of index {name!r}, which is unknown to this program")
                self._versioned[name].changed_at.update(changed)
            case _Kind.RESULTS:
                self._results += decode(data, tuple[Result, ...])
            case _Kind.END:
                self._end = decode(data, _End)
            case _:
                raise Invalid(f"snapshot record kind {kind} is unknown to this program")

    def _read_objects(self, table: int, data: bytes) -> None:
        rows = self._tables.by_table.get(Table(table)) if table in _KNOWN_TABLES else None
        if rows is None:
            raise Invalid(f"the snapshot has a table {table}, which is unknown to this program")
        items = loads(data)
        if not isinstance(items, list):
            raise Invalid("a snapshot's objects come in lists")
        type_ = TYPE_OF_TABLE[rows.table]
        for item in items:
            object = decode_object(item, type_)
            if object.id in rows.objects:
                raise Invalid(f"the snapshot has {rows.table.name.lower()} {object.id} twice")
            rows.write(object.id, None, object, 0)


_KNOWN_TABLES: Final = frozenset(int(table) for table in Table)


def _read_header(data: bytes) -> Header:
    format = decode(data, dict[str, Any]).get("format")
    if format != SNAPSHOT_FORMAT:
        raise Invalid(
            f"snapshot format {format} is unknown to this program",
            hint="run at least the version of swarmd that wrote it",
        )
    return decode(data, Header)
