"""A manager waits for its disk by itself, and takes from the reserve what it needs to come back."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from swarmd.manager import disk_return
from swarmd.manager.disk_health import DiskHealth
from swarmd.manager.disk_return import LOOK_S_MAX, until_usable
from swarmd.storage.errors import StorageFailed, StorageFull
from swarmd.storage.reserve import Space, SpaceReserve
from swarmd.wire.disk import DiskCondition

FULL, FAILED = StorageFull("no space for the log"), StorageFailed("disk I/O error")
GIB = 1 << 30


class Disk:
    """What looks find: refuses with `error` until it is None; `free` of 100 GiB."""

    def __init__(self) -> None:
        self.error: StorageFailed | None = None
        self.free = GIB
        self.looks: list[float] = []

    def probe(self, place: Path) -> None:
        self.looks.append(trio.current_time())
        if self.error is not None:
            raise self.error


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Disk:
    caplog.set_level(logging.CRITICAL)
    disk = Disk()

    async def run_sync(work: Any, **_: object) -> Any:
        await trio.lowlevel.checkpoint()
        return work()

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)
    monkeypatch.setattr(disk_return, "probe", disk.probe)
    monkeypatch.setattr(disk_return, "space_of", lambda place: Space(disk.free, 100 * GIB))
    return disk


@pytest.fixture
def health() -> DiskHealth:
    return DiskHealth(lambda: 0.0)


async def test_a_disk_that_nothing_is_known_against_is_not_looked_at(
    disk: Disk, health: DiskHealth, tmp_path: Path
) -> None:
    await until_usable(health, tmp_path)
    assert disk.looks == []


@pytest.mark.parametrize("failure", [FULL, FAILED])
async def test_it_is_looked_at_ever_less_often_until_it_takes_a_write(
    autojump_clock: trio.testing.MockClock, disk: Disk, health: DiskHealth, tmp_path: Path, failure: StorageFailed
) -> None:
    health.note_failure(failure)
    disk.error = failure
    done = trio.Event()

    async def wait() -> None:
        await until_usable(health, tmp_path)
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(100)
        assert not done.is_set()
        gaps = [later - earlier for earlier, later in zip(disk.looks, disk.looks[1:], strict=False)]
        assert gaps == sorted(gaps)
        assert gaps[-1] == LOOK_S_MAX
        disk.error = None
        mended_at = trio.current_time()
        await done.wait()
        assert trio.current_time() - mended_at <= LOOK_S_MAX
    # That it is worth a try is not yet that it is well.
    assert health.failure is not None


async def test_on_a_full_disk_the_reserve_is_given_up_once_and_is_enough(
    disk: Disk, health: DiskHealth, tmp_path: Path
) -> None:
    SpaceReserve(tmp_path).make()
    disk.free = 0
    health.note_failure(FULL)
    await until_usable(health, tmp_path)
    assert not SpaceReserve(tmp_path).is_held


async def test_without_a_reserve_there_must_be_more_than_the_critical_bound(
    autojump_clock: trio.testing.MockClock, disk: Disk, health: DiskHealth, tmp_path: Path
) -> None:
    health.note_failure(FULL)
    disk.free = 1 << 20
    with trio.move_on_after(60) as patience:
        await until_usable(health, tmp_path)
    assert patience.cancelled_caught
    assert "1024 KiB are free, and 65536 KiB are needed" in health.report.reason
    disk.free = 65 << 20
    await until_usable(health, tmp_path)


async def test_the_reserve_is_no_cure_for_a_disk_that_fails(disk: Disk, health: DiskHealth, tmp_path: Path) -> None:
    SpaceReserve(tmp_path).make()
    disk.free = 0
    health.note_failure(FAILED)
    await until_usable(health, tmp_path)
    assert SpaceReserve(tmp_path).is_held


async def test_a_disk_that_failed_and_turns_out_to_be_full_is_given_the_reserve(
    autojump_clock: trio.testing.MockClock, disk: Disk, health: DiskHealth, tmp_path: Path
) -> None:
    SpaceReserve(tmp_path).make()
    health.note_failure(FAILED)
    disk.error = FULL
    with trio.move_on_after(1):
        await until_usable(health, tmp_path)
    assert health.report.condition is DiskCondition.FULL
    assert not SpaceReserve(tmp_path).is_held


async def test_a_manager_without_a_log_yet_looks_where_it_will_be(
    disk: Disk, health: DiskHealth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = []
    monkeypatch.setattr(disk_return, "probe", places.append)
    health.note_failure(FULL)
    await until_usable(health, tmp_path / "raft")
    assert places == [tmp_path]
