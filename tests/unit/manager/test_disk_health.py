"""The gravest of what is known of a disk is what is told, since when, and with the reason."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing

from swarmd.manager.disk_health import PAUSE_S_MAX, PAUSE_S_MIN, SOUND_S, DiskHealth
from swarmd.storage.errors import StorageFailed, StorageFull
from swarmd.storage.reserve import Space
from swarmd.wire.disk import DiskCondition

GIB, MIB = 1 << 30, 1 << 20


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock, caplog: pytest.LogCaptureFixture) -> DiskHealth:
    caplog.set_level(logging.CRITICAL)
    return DiskHealth(clock)


def test_nothing_is_wrong_until_something_is_noted(health: DiskHealth) -> None:
    assert health.report.condition is DiskCondition.WELL
    assert health.report.may_lead
    assert health.failure is None


def test_the_gravest_is_told_with_the_instant_at_which_it_began(health: DiskHealth, clock: Clock) -> None:
    health.note_space(Space(MIB, 100 * GIB))
    clock.now = 1005.0
    health.note_space(Space(2 * MIB, 100 * GIB))
    report = health.report
    assert (report.condition, report.since_at, report.free_bytes) == (DiskCondition.CRITICAL, 1000.0, 2 * MIB)
    assert not report.may_lead
    health.note_stall(is_stalled=True)
    assert (health.report.condition, health.report.since_at) == (DiskCondition.STALLED, 1005.0)
    health.note_failure(StorageFull("no space for raft.db"))
    assert (health.report.condition, health.report.reason) == (DiskCondition.FULL, "no space for raft.db")
    health.note_failure(StorageFailed("raft.db: disk I/O error"))
    assert health.report.condition is DiskCondition.FAILED


async def test_a_disk_that_took_a_write_is_as_well_as_its_space(health: DiskHealth) -> None:
    health.note_space(Space(MIB, 100 * GIB))
    health.note_failure(StorageFull("no space"))
    health.note_usable()
    assert health.failure is None
    assert (health.report.condition, health.report.reason) == (DiskCondition.CRITICAL, "")
    health.note_space(Space(50 * GIB, 100 * GIB))
    assert health.report.condition is DiskCondition.WELL


async def test_whoever_waits_hears_of_a_change_and_of_nothing_else(health: DiskHealth) -> None:
    health.note_space(Space(50 * GIB, 100 * GIB))
    changed = health.changed
    health.note_space(Space(49 * GIB, 100 * GIB))
    assert not changed.is_set()
    health.note_stall(is_stalled=True)
    assert changed.is_set()
    assert not health.changed.is_set()


async def test_a_disk_that_fails_again_and_again_is_left_alone_ever_longer(
    autojump_clock: trio.testing.MockClock, health: DiskHealth
) -> None:
    pauses = []
    for _ in range(12):
        health.count_failure(StorageFailed("again"))
        pauses.append(health.pause_s)
        health.note_usable()
        await trio.sleep(SOUND_S / 2)
    assert (pauses[0], pauses[1], pauses[-1]) == (PAUSE_S_MIN, 2 * PAUSE_S_MIN, PAUSE_S_MAX)
    await trio.sleep(SOUND_S)
    health.count_failure(StorageFailed("after a long time"))
    assert health.pause_s == PAUSE_S_MIN
