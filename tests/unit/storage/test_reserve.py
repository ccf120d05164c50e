"""Space that is set aside is there when it is needed, and a probe says whether a disk takes anything."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from swarmd.storage import reserve as module
from swarmd.storage.errors import StorageFailed, StorageFull
from swarmd.storage.log_store import WAL_PAGE_BYTES, WAL_PAGES_MAX
from swarmd.storage.reserve import RESERVE_BYTES, SpaceReserve, probe

SIZE = 1 << 20


def test_the_space_is_allocated_and_nobody_elses_to_read(tmp_path: Path) -> None:
    reserve = SpaceReserve(tmp_path, SIZE)
    assert not reserve.is_held
    reserve.make()
    reserve.make()
    found = (tmp_path / "reserve").stat()
    assert reserve.is_held
    assert (found.st_size, stat.S_IMODE(found.st_mode)) == (SIZE, 0o600)
    assert found.st_blocks * 512 >= SIZE


def test_it_is_given_up_once(tmp_path: Path) -> None:
    reserve = SpaceReserve(tmp_path, SIZE)
    reserve.make()
    assert reserve.release()
    assert not reserve.release()
    assert not reserve.is_held
    assert list(tmp_path.iterdir()) == []


def test_what_was_begun_and_not_finished_is_no_reserve(tmp_path: Path) -> None:
    (tmp_path / "reserve").write_bytes(bytes(SIZE // 2))
    reserve = SpaceReserve(tmp_path, SIZE)
    assert not reserve.is_held
    reserve.make()
    assert reserve.is_held


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull), (errno.EIO, StorageFailed)],
)
def test_a_disk_that_refuses_says_why_and_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[StorageFailed]
) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module.os, "posix_fallocate", refuse)
    monkeypatch.setattr(module.os, "fsync", refuse)
    for work in (SpaceReserve(tmp_path, SIZE).make, lambda: probe(tmp_path)):
        with pytest.raises(StorageFailed) as caught:
            work()
        assert type(caught.value) is kind
        assert list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_something_passes_the_probe(tmp_path: Path) -> None:
    probe(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_checkpoint_of_a_whole_write_ahead_log_fits_in_it() -> None:
    assert RESERVE_BYTES > WAL_PAGES_MAX * WAL_PAGE_BYTES
