"""Snapshot files: `STATE/raft/snapshot-<index>-<term>`, sealed chunks; made durable under another name, then renamed.

Blocking; call from a thread. A file is a magic number and sealed blobs, each with its length before it: the metadata,
the chunks, an end mark with their number. A blob's seal covers its kind and place, so nothing can be cut off, added,
exchanged or taken from another snapshot.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from swarmd.errors import Invalid
from swarmd.raft import SnapshotMeta
from swarmd.storage.durable_files import PRIVATE_FILE, make_private_directory, sync_directory
from swarmd.storage.errors import StorageDamaged, refused
from swarmd.storage.sealing import OVERHEAD_BYTES, Sealer, key_of
from swarmd.wire import codec

CHUNK_BYTES_MAX: Final = 1 << 20
SYNC_BYTES: Final = 8 << 20
"""Sync after each so many bytes: one flush of the whole file would hold up the log's own syncs behind it."""

_MAGIC: Final = b"SWSNAP1\n"
_LENGTH: Final = struct.Struct(">I")
_PLACE: Final = struct.Struct(">QQBQ")
_META, _CHUNK, _END = 0, 1, 2
_NAME: Final = re.compile(r"snapshot-(?P<index>\d{1,19})-(?P<term>\d{1,19})(?P<unfinished>\.unfinished)?")


class SnapshotStorage(Protocol):
    """What `SnapshotStore` and `MemorySnapshotStore` share."""

    def save(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> Path:
        """Make a snapshot durable."""
        ...

    def read(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """Its plain chunks."""
        ...

    def reseal(self) -> None:
        """Seal anew the snapshots that name an older data key."""

    def prune(self, keep: SnapshotMeta) -> None:
        """Delete older and unfinished files."""


class SnapshotStore:
    """The snapshot files of one manager. One `save`, `reseal` or `prune` at a time; `read` beside them is fine."""

    def __init__(self, directory: Path, sealer: Sealer) -> None:
        self._directory = directory
        self._sealer = sealer

    def save(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> Path:
        """Make a snapshot durable. Nothing is visible until it is complete.

        Raises `StorageFailed`, `ValueError` for a chunk beyond `CHUNK_BYTES_MAX`, and what `chunks` raises; then the
        unfinished file is removed, and an earlier snapshot of the same name is as it was.
        """
        make_private_directory(self._directory)
        path = self._path(meta)
        unfinished = path.with_name(path.name + ".unfinished")
        try:
            try:
                descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
                with os.fdopen(descriptor, "wb") as file:
                    self._write(file, meta, chunks)
                unfinished.replace(path)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
            sync_directory(self._directory)
        except OSError as error:
            raise refused(f"cannot write {path}: {error.strerror}", error) from error
        return path

    def read(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """Its plain chunks (each <= 1 MiB), as they were saved. Raises `StorageDamaged`, also if there is no such file.

        Each chunk is what was saved, but only the iterator's regular end says that none is missing: use nothing of it
        before.
        """
        path = self._path(meta)
        try:
            with path.open("rb") as file:
                yield from self._read(file, path, meta)
        except FileNotFoundError as error:
            raise StorageDamaged(f"{path} is missing") from error
        except OSError as error:
            raise refused(f"cannot read {path}: {error.strerror}", error) from error

    def reseal(self) -> None:
        """Seal anew, under the same name, each snapshot that names an older data key; delete unfinished ones.

        Each file is the old one or the new one at any moment. Raises `StorageFailed`; `StorageDamaged` for one that
        does not open, which stays as it is.
        """
        try:
            paths = sorted(self._directory.iterdir()) if self._directory.is_dir() else []
            found = [(path, match) for path in paths if (match := _NAME.fullmatch(path.name))]
            for path, match in found:
                if match["unfinished"]:
                    path.unlink(missing_ok=True)
                elif _keys_named(path) - {self._sealer.current_key}:
                    meta = self._meta_in(path, SnapshotMeta(index=int(match["index"]), term=int(match["term"])))
                    self.save(meta, self.read(meta))
        except OSError as error:
            raise refused(f"cannot seal anew what is in {self._directory}: {error.strerror}", error) from error

    def prune(self, keep: SnapshotMeta) -> None:
        """Delete older and unfinished files; keeps `keep` and the one before it. Without `keep`, nothing is deleted."""
        kept = (keep.index, keep.term)
        try:
            names = {path: _NAME.fullmatch(path.name) for path in self._directory.iterdir()}
            ours = {path: found for path, found in names.items() if found}
            finished = {(int(m["index"]), int(m["term"])): path for path, m in ours.items() if not m["unfinished"]}
            if kept not in finished:
                return
            older = sorted(place for place in finished if place < kept)
            for path in [path for path, m in ours.items() if m["unfinished"]] + [finished[p] for p in older[:-1]]:
                path.unlink(missing_ok=True)
            sync_directory(self._directory)
        except OSError as error:
            raise refused(f"cannot prune snapshots in {self._directory}: {error.strerror}", error) from error

    def _path(self, meta: SnapshotMeta) -> Path:
        return self._directory / f"snapshot-{meta.index}-{meta.term}"

    # -- writing ---------------------------------------------------------------------------------------------------

    def _write(self, file: BinaryIO, meta: SnapshotMeta, chunks: Iterable[bytes]) -> None:
        file.write(_MAGIC)
        self._write_blob(file, meta, _META, 0, codec.encode(meta))
        count = unsynced = 0
        for chunk in chunks:
            if len(chunk) > CHUNK_BYTES_MAX:
                raise ValueError(f"a chunk of {len(chunk)} bytes; the limit is {CHUNK_BYTES_MAX}")
            self._write_blob(file, meta, _CHUNK, count, chunk)
            count += 1
            unsynced += len(chunk)
            if unsynced >= SYNC_BYTES:
                _sync(file)
                unsynced = 0
        self._write_blob(file, meta, _END, count, b"")
        _sync(file)

    def _write_blob(self, file: BinaryIO, meta: SnapshotMeta, kind: int, place: int, plain: bytes) -> None:
        sealed = self._sealer.seal(plain, _name_of_blob(meta, kind, place))
        file.write(_LENGTH.pack(len(sealed)))
        file.write(sealed)

    # -- reading ---------------------------------------------------------------------------------------------------

    def _read(self, file: BinaryIO, path: Path, meta: SnapshotMeta) -> Iterator[bytes]:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise StorageDamaged(f"{path} is no snapshot")
        self._check_meta(_next_blob(file, path), path, meta)
        place = 0
        sealed = _next_blob(file, path)
        while True:
            following = _next_blob(file, path, or_end=True)
            # The last blob must be the end mark, and the end mark the last blob: its seal says which it is.
            kind = _CHUNK if following else _END
            try:
                plain = self._sealer.open(sealed, _name_of_blob(meta, kind, place))
            except StorageDamaged as error:
                raise StorageDamaged(f"{path}, chunk {place}: {error}") from error
            if not following:
                return
            yield plain
            place += 1
            sealed = following

    def _check_meta(self, sealed: bytes, path: Path, meta: SnapshotMeta) -> None:
        if self._open_meta(sealed, path, meta) != meta:
            raise StorageDamaged(f"{path} is a snapshot of another membership than the log says")

    def _open_meta(self, sealed: bytes, path: Path, named: SnapshotMeta) -> SnapshotMeta:
        """`named` has the index and term of the file's name, which is all that the seal says."""
        plain = self._sealer.open(sealed, _name_of_blob(named, _META, 0))
        try:
            return codec.decode(plain, SnapshotMeta)
        except Invalid as error:
            raise StorageDamaged(f"{path}: {error}") from error

    def _meta_in(self, path: Path, named: SnapshotMeta) -> SnapshotMeta:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise StorageDamaged(f"{path} is no snapshot")
            return self._open_meta(_next_blob(file, path), path, named)


def _keys_named(path: Path) -> set[int]:
    """The ids of the data keys that a file's blobs say they are sealed with. Reads a few bytes of each."""
    named: set[int] = set()
    with path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        if file.read(len(_MAGIC)) != _MAGIC:
            raise StorageDamaged(f"{path} is no snapshot")
        while (place := file.tell()) < end:
            length, head = _length_of_blob(file, path), file.read(OVERHEAD_BYTES)
            named.add(key_of(head))
            file.seek(place + _LENGTH.size + length)
    return named


def _next_blob(file: BinaryIO, path: Path, *, or_end: bool = False) -> bytes:
    """The next sealed blob; empty at the end of the file if that may be here."""
    length = _length_of_blob(file, path, or_end=or_end)
    sealed = file.read(length)
    if len(sealed) != length:
        raise StorageDamaged(f"{path} is cut off")
    return sealed


def _length_of_blob(file: BinaryIO, path: Path, *, or_end: bool = False) -> int:
    """Of the next sealed blob; 0 at the end of the file if that may be here."""
    header = file.read(_LENGTH.size)
    if not header and or_end:
        return 0
    length: int = _LENGTH.unpack(header)[0] if len(header) == _LENGTH.size else 0
    if not OVERHEAD_BYTES <= length <= CHUNK_BYTES_MAX + OVERHEAD_BYTES:
        raise StorageDamaged(f"{path} is cut off or not what was written")
    return length


def _name_of_blob(meta: SnapshotMeta, kind: int, place: int) -> bytes:
    return b"snapshot" + _PLACE.pack(meta.index, meta.term, kind, place)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
