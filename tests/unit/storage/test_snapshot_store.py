"""Snapshot files: damage, crashes half-way, a full disk. What any such store must do is in tests/contract/storage."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmd.raft import Configuration, Member, SnapshotMeta
from swarmd.storage.errors import StorageDamaged, StorageFailed
from swarmd.storage.sealing import Sealer
from swarmd.storage.snapshot_store import CHUNK_BYTES_MAX, SnapshotStore

META = SnapshotMeta(index=12, term=3, configuration=Configuration(members=(Member(member_id=1, node_id="n"),)))
CHUNKS = (b"the first", b"", b"the third and last")


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / "raft", Sealer({1: b"k" * 32}, 1, b"context"))


def assert_damaged(store: SnapshotStore, meta: SnapshotMeta = META) -> None:
    with pytest.raises(StorageDamaged):
        list(store.read(meta))


def test_the_file_is_named_by_index_and_term_private_and_sealed(store: SnapshotStore) -> None:
    path = store.save(META, CHUNKS)
    assert path.name == "snapshot-12-3"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"the first" not in path.read_bytes()
    assert [file.name for file in path.parent.iterdir()] == ["snapshot-12-3"]


def test_a_changed_byte_anywhere_is_damage(store: SnapshotStore) -> None:
    path = store.save(META, CHUNKS)
    content = path.read_bytes()
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1
        path.write_bytes(changed)
        assert_damaged(store)


def test_a_file_cut_off_anywhere_is_damage(store: SnapshotStore) -> None:
    path = store.save(META, CHUNKS)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert_damaged(store)


def blobs_of(content: bytes) -> list[bytes]:
    """The file's blobs, each with its length before it."""
    blobs, offset = [], 8
    while offset < len(content):
        end = offset + 4 + int.from_bytes(content[offset : offset + 4], "big")
        blobs.append(content[offset:end])
        offset = end
    return blobs


def test_chunks_left_out_exchanged_repeated_or_added_are_damage(store: SnapshotStore) -> None:
    path = store.save(META, CHUNKS)
    magic = path.read_bytes()[:8]
    meta, first, second, third, end = blobs_of(path.read_bytes())
    for blobs in (
        [meta, first, third, end],
        [meta, second, first, third, end],
        [meta, first, first, second, third, end],
        [meta, first, second, third, end, end],
        [meta, first, second, end],
        [meta, end],
        [first, second, third, end],
        [meta, first, second, third, end, b"\0"],
    ):
        path.write_bytes(magic + b"".join(blobs))
        assert_damaged(store)


def test_chunks_of_another_snapshot_are_damage(store: SnapshotStore) -> None:
    other = SnapshotMeta(index=13, term=3, configuration=META.configuration)
    path = store.save(META, CHUNKS)
    stranger = store.save(other, CHUNKS)
    ours, theirs = blobs_of(path.read_bytes()), blobs_of(stranger.read_bytes())
    path.write_bytes(path.read_bytes()[:8] + b"".join([*ours[:2], theirs[2], *ours[3:]]))
    assert_damaged(store)
    path.write_bytes(stranger.read_bytes())
    assert_damaged(store)


def test_a_snapshot_of_another_membership_than_asked_for_is_damage(store: SnapshotStore) -> None:
    store.save(META, CHUNKS)
    assert_damaged(store, SnapshotMeta(index=12, term=3))


def test_a_snapshot_sealed_by_another_member_is_damage(store: SnapshotStore, tmp_path: Path) -> None:
    store.save(META, CHUNKS)
    assert_damaged(SnapshotStore(tmp_path / "raft", Sealer({1: b"k" * 32}, 1, b"other context")))


def test_chunks_before_the_damage_are_given_as_they_were(store: SnapshotStore) -> None:
    path = store.save(META, CHUNKS)
    path.write_bytes(path.read_bytes()[:-1])
    seen = []
    with pytest.raises(StorageDamaged):
        seen.extend(store.read(META))
    reader = store.read(META)
    assert next(reader) == CHUNKS[0]


def test_a_chunk_beyond_the_limit_is_refused_and_leaves_nothing(store: SnapshotStore, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="limit"):
        store.save(META, [bytes(CHUNK_BYTES_MAX + 1)])
    assert list((tmp_path / "raft").iterdir()) == []


def test_a_failed_save_keeps_the_snapshot_that_was_there(store: SnapshotStore) -> None:
    def broken() -> Iterator[bytes]:
        yield b"a beginning"
        raise LookupError

    store.save(META, CHUNKS)
    with pytest.raises(LookupError):
        store.save(META, broken())
    assert tuple(store.read(META)) == CHUNKS


def test_a_full_disk_is_reported_and_leaves_nothing(
    store: SnapshotStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "raft").mkdir()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFailed, match="No space left"):
        store.save(META, CHUNKS)
    assert list((tmp_path / "raft").iterdir()) == []


def test_what_a_crash_left_unfinished_is_overwritten_and_pruned(store: SnapshotStore, tmp_path: Path) -> None:
    (tmp_path / "raft").mkdir()
    (tmp_path / "raft" / "snapshot-12-3.unfinished").write_bytes(b"half of an earlier attempt, longer than it was" * 99)
    (tmp_path / "raft" / "snapshot-9-3.unfinished").write_bytes(b"half")
    (tmp_path / "raft" / "raft.db").write_bytes(b"not ours to prune")
    assert_damaged(store)
    store.save(META, CHUNKS)
    store.prune(META)
    assert tuple(store.read(META)) == CHUNKS
    assert sorted(file.name for file in (tmp_path / "raft").iterdir()) == ["raft.db", "snapshot-12-3"]


def test_pruning_goes_by_number_not_by_name(store: SnapshotStore, tmp_path: Path) -> None:
    for index in (9, 10, 100):
        store.save(SnapshotMeta(index=index, term=1), [b"x"])
    store.prune(SnapshotMeta(index=100, term=1))
    assert sorted(file.name for file in (tmp_path / "raft").iterdir()) == ["snapshot-10-1", "snapshot-100-1"]
