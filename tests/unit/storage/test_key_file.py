"""Data keys on the disk: durable before they are used, counted before they seal, gone only when asked."""

from __future__ import annotations

import os
import threading
from collections import Counter
from pathlib import Path

import pytest

from swarmd.storage import data_keys, key_file
from swarmd.storage.errors import StorageFailed
from swarmd.storage.key_file import GRANTED_BLOBS, KeyFile
from swarmd.storage.sealing import BLOBS_PER_KEY_MAX, key_of
from swarmd.wire import codec


def stored(path: Path) -> dict[int, int]:
    """Key id -> blobs counted, as a restart would find it."""
    keys = data_keys.load(path)
    assert keys is not None
    assert keys.current == max(keys.by_id)
    return {key.id: key.sealed for key in keys.keys}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "certificates" / "data-keys.cbor"


def test_blobs_are_counted_before_they_are_sealed(path: Path) -> None:
    sealer = KeyFile(path, os.urandom).sealer(b"context")
    assert stored(path) == {1: 0}
    sealer.seal(b"plain", b"what")
    assert stored(path) == {1: GRANTED_BLOBS}
    sealer.seal(b"plain", b"what")
    assert stored(path) == {1: GRANTED_BLOBS}


def test_each_life_counts_anew_so_that_a_crash_counts_too_many_and_never_too_few(path: Path) -> None:
    for life in range(1, 4):
        KeyFile(path, os.urandom).sealer(b"context").seal(b"plain", b"what")
        assert stored(path) == {1: life * GRANTED_BLOBS}


def test_opening_counts_nothing(path: Path) -> None:
    sealed = KeyFile(path, os.urandom).sealer(b"context").seal(b"plain", b"what")
    before = path.read_bytes()
    assert KeyFile(path, os.urandom).sealer(b"context").open(sealed, b"what") == b"plain"
    assert path.read_bytes() == before


def test_a_used_up_key_is_followed_by_another_before_it_seals_one_blob_too_many(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_file, "GRANTED_BLOBS", 4)
    monkeypatch.setattr(key_file, "BLOBS_PER_KEY_MAX", 10)
    sealer = KeyFile(path, os.urandom).sealer(b"context")
    used = [key_of(sealer.seal(b"plain", b"what")) for _ in range(20)]
    assert used == [1] * 8 + [2] * 8 + [3] * 4
    assert stored(path) == {1: 8, 2: 8, 3: 4}


def test_keys_of_the_first_format_were_never_counted_and_are_taken_as_used_up(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(codec.encode({"v": 1, "current": 1, "keys": [{"id": 1, "key": b"k" * 32}], "kek_version": 0}))
    sealer = KeyFile(path, os.urandom).sealer(b"context")
    assert sealer.current_key == 1
    assert key_of(sealer.seal(b"plain", b"what")) == 2
    assert stored(path) == {1: BLOBS_PER_KEY_MAX, 2: GRANTED_BLOBS}


def test_a_new_key_is_durable_before_it_seals(path: Path) -> None:
    sealer = KeyFile(path, os.urandom).sealer(b"context")
    sealer.seal(b"plain", b"what")
    assert sealer.rotate() == 2
    assert stored(path) == {1: GRANTED_BLOBS, 2: GRANTED_BLOBS}
    assert KeyFile(path, os.urandom).sealer(b"context").open(sealer.seal(b"plain", b"what"), b"what") == b"plain"


def test_a_key_that_cannot_be_stored_is_not_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sealer = KeyFile(path, os.urandom).sealer(b"context")
    sealer.seal(b"plain", b"what")

    def refuse(*_: object) -> None:
        raise StorageFailed("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(data_keys, "replace_file", refuse)
        with pytest.raises(StorageFailed):
            sealer.rotate()
    assert key_of(sealer.seal(b"plain", b"what")) == 1
    assert sealer.old_keys == set()
    assert sealer.rotate() == 2


def test_the_bytes_of_a_forgotten_key_are_in_no_file(path: Path) -> None:
    sealer = KeyFile(path, os.urandom).sealer(b"context")
    keys = data_keys.load(path)
    assert keys is not None
    sealer.rotate()
    sealer.forget(frozenset({1}))
    assert stored(path) == {2: GRANTED_BLOBS}
    assert not [file for file in path.parent.iterdir() if keys.by_id[1] in file.read_bytes()]


def test_a_key_file_that_was_deleted_meanwhile_comes_back_whole(path: Path) -> None:
    sealer = KeyFile(path, os.urandom).sealer(b"context")
    sealed = sealer.seal(b"plain", b"what")
    path.unlink()
    sealer.rotate()
    assert KeyFile(path, os.urandom).sealer(b"context").open(sealed, b"what") == b"plain"


def test_ids_are_never_used_again(path: Path) -> None:
    sealer = KeyFile(path, os.urandom).sealer(b"context")
    for number in range(2, 10):
        assert sealer.rotate() == number
        sealer.forget(sealer.old_keys)
    assert KeyFile(path, os.urandom).sealer(b"context").rotate() == 10


def test_threads_that_seal_during_rotations_are_never_counted_too_low(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_file, "GRANTED_BLOBS", 16)
    monkeypatch.setattr("swarmd.storage.durable_files.os.fsync", lambda descriptor: None)  # hundreds of them
    sealer = KeyFile(path, os.urandom).sealer(b"context")
    sealed: list[list[bytes]] = [[] for _ in range(4)]

    def seal(mine: list[bytes]) -> None:
        for number in range(500):
            mine.append(sealer.seal(b"%d" % number, b"what"))

    threads = [threading.Thread(target=seal, args=(mine,)) for mine in sealed]
    for thread in threads:
        thread.start()
    for number in range(2, 12):
        assert sealer.rotate() == number
    for thread in threads:
        thread.join()
    used = Counter(key_of(blob) for mine in sealed for blob in mine)
    counted = stored(path)
    assert sum(used.values()) == 2000
    assert all(used[key_id] <= counted[key_id] for key_id in used)
    again = KeyFile(path, os.urandom).sealer(b"context")
    for mine in sealed:
        assert [again.open(blob, b"what") for blob in mine] == [b"%d" % number for number in range(500)]
