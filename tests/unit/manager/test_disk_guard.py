"""A leader whose disk is not fit to lead looks for a better one; the reserve is made again where that leaves enough."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from swarmd.errors import FailedPrecondition
from swarmd.manager import disk_guard
from swarmd.manager.disk_guard import RETRY_S, SPACE_S, STALL_S, WRITES_S, DiskGuard
from swarmd.manager.disk_health import DiskHealth
from swarmd.model import Availability, Node, NodeSpec, Role
from swarmd.raft import ProgressView
from swarmd.storage.errors import StorageFailed
from swarmd.storage.reserve import Space, SpaceReserve
from swarmd.wire.disk import DiskCondition
from tests.unit.manager.fake_driver import FakeDriver
from tests.unit.manager.local_store import LocalStore
from tests.unit.manager.raft_cluster import member, node_of, open_cluster

GIB, MIB = 1 << 30, 1 << 20


class World:
    """Member 1 leads; 2 and 3 vote, answer and have everything. `free` of 100 GiB are free."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = LocalStore()
        self.driver = cast("Any", FakeDriver(tuple(replace(member(n), is_voter=True) for n in (1, 2, 3))))
        self.driver.state = self.store.state
        self.driver.core.member_id, self.driver.disk_waits_s = 1, 0.0
        self.driver.lead(1)
        self.health = DiskHealth(lambda: 0.0)
        self.unfit: set[str] = set()
        self.free = 50 * GIB
        self.refusal: StorageFailed | None = None
        self.matches(10, 10, 10)

    def matches(self, *indexes: int) -> None:
        self.driver.core.views = tuple(
            ProgressView(member_id=n, match=match, next=match + 1, is_active=True, ticks_since_heard=0)
            for n, match in enumerate(indexes, 1)
        )

    def space_of(self, directory: Path) -> Space:
        if self.refusal is not None:
            raise self.refusal
        held = 0 if not SpaceReserve(self.directory).is_held else SpaceReserve(self.directory).size
        return Space(self.free - held, 100 * GIB)

    @asynccontextmanager
    async def guarded(self) -> AsyncIterator[None]:
        guard = DiskGuard(
            self.driver,
            self.health,
            self.directory,
            own_node_id=node_of(1),
            may_lead=lambda node_id: node_id not in self.unfit,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guard.run)
            await trio.sleep(SPACE_S + WRITES_S)
            yield
            nursery.cancel_scope.cancel()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> World:
    caplog.set_level(logging.CRITICAL)
    world = World(tmp_path)

    async def run_sync(work: Any, **_: object) -> Any:
        await trio.lowlevel.checkpoint()
        return work()

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)
    monkeypatch.setattr(disk_guard, "space_of", world.space_of)
    return world


async def test_with_room_the_reserve_is_made_and_the_lead_kept(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    async with world.guarded():
        await trio.sleep(60)
    assert SpaceReserve(world.directory).is_held
    assert world.health.report.condition is DiskCondition.WELL
    assert world.driver.asked_to_lead == []


async def test_a_critical_leader_hands_over_within_a_look(autojump_clock: trio.testing.MockClock, world: World) -> None:
    world.matches(10, 9, 10)
    async with world.guarded():
        world.free = MIB
        await trio.sleep(SPACE_S + WRITES_S)
        assert world.driver.asked_to_lead == [3]
        world.driver.follow(3)
        await trio.sleep(60)
    assert world.driver.asked_to_lead == [3]


async def test_it_asks_again_while_it_leads_on_and_not_all_the_time(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    world.driver.transfer_error = FailedPrecondition("it does not answer")
    async with world.guarded():
        world.free = MIB
        await trio.sleep(10 * RETRY_S)
    assert 8 <= len(world.driver.asked_to_lead) <= 11


async def test_no_manager_whose_own_disk_is_unfit_or_whose_node_is_drained_is_asked(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    drained = NodeSpec(desired_role=Role.MANAGER, availability=Availability.DRAIN)
    world.store.create(Node(id=node_of(2), role=Role.MANAGER, spec=drained))
    world.unfit = {node_of(3)}
    async with world.guarded():
        world.free = MIB
        await trio.sleep(30)
        assert world.driver.asked_to_lead == []
        world.unfit.clear()
        await trio.sleep(RETRY_S + 2 * WRITES_S)
        assert set(world.driver.asked_to_lead) == {3}


async def test_the_reserve_is_not_made_where_it_would_make_the_disk_critical(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    world.free = 100 * MIB
    async with world.guarded():
        await trio.sleep(60)
        assert not SpaceReserve(world.directory).is_held
        assert world.health.report.condition is DiskCondition.LOW
        world.free = 200 * MIB
        await trio.sleep(2 * SPACE_S)
        assert SpaceReserve(world.directory).is_held
        assert world.health.report.condition is DiskCondition.LOW


async def test_a_disk_that_does_not_tell_its_space_is_no_reason_to_stop(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    async with world.guarded():
        world.refusal = StorageFailed("cannot look")
        await trio.sleep(3 * SPACE_S)
        world.refusal, world.free = None, MIB
        await trio.sleep(SPACE_S + WRITES_S)
        assert world.health.report.condition is DiskCondition.CRITICAL


async def test_a_leader_whose_write_hangs_hands_over_to_one_whose_disk_goes_on(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    async with world.guarded():
        world.matches(10, 12, 14)
        world.driver.disk_waits_s = STALL_S - 0.1
        await trio.sleep(5)
        assert world.driver.asked_to_lead == []
        world.driver.disk_waits_s = STALL_S
        await trio.sleep(1.5 * WRITES_S)
        assert world.health.report.condition is DiskCondition.STALLED
        await trio.sleep(1.5 * WRITES_S)
        assert world.driver.asked_to_lead == [3]
        world.driver.disk_waits_s = 0.0
        await trio.sleep(1.5 * WRITES_S)
        assert world.health.report.condition is DiskCondition.WELL


async def test_where_one_device_hangs_for_all_nothing_is_won_by_another_leader(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    async with world.guarded():
        world.driver.disk_waits_s = 10 * STALL_S
        await trio.sleep(30)
    assert world.driver.asked_to_lead == []


async def test_a_write_that_never_comes_back_costs_the_lead_and_nothing_else(
    autojump_clock: trio.testing.MockClock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On real drivers: the hung leader's changes are made good by the others, and writes go on with the next one."""
    async with open_cluster() as cluster:
        leader = await cluster.leader()
        guard = DiskGuard(
            leader.driver,
            world.health,
            world.directory,
            own_node_id=node_of(leader.member_id),
            may_lead=lambda node_id: True,
        )
        cluster.nursery.start_soon(guard.run)
        monkeypatch.setattr(leader.driver._disk._writer, "submit", lambda batch, done: None)
        hung_at = trio.current_time()
        await leader.store.update(lambda tx: tx.create(Node(id="during")), actor="test")
        heir = await cluster.leader(*(m for m in cluster.managers if m != leader.member_id))
        assert trio.current_time() - hung_at < STALL_S + 2 * WRITES_S + 0.2
        await heir.store.update(lambda tx: tx.create(Node(id="after")), actor="test")
        await trio.sleep(20)
        assert heir.driver.is_leading
        assert leader.is_running
