"""When a member tells its leader what its state was, and what it does when nobody listens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import trio
import trio.testing

from swarmd.errors import Unavailable
from swarmd.manager.digests.points import DigestPoints
from swarmd.manager.digests.reporter import PAUSE_S, RETRY_S, DigestReporter
from swarmd.raft import Member
from swarmd.wire.methods import RAFT_DIGEST
from swarmd.wire.peer import DigestReply, DigestReport
from tests.unit.manager.fake_driver import FakeDriver
from tests.unit.manager.raft_cluster import member
from tests.unit.manager.test_digest_votes import point


class World:
    """Member 2 of three; member 1 leads in term 1 and answers at once."""

    def __init__(self) -> None:
        self.driver = FakeDriver((member(1), member(2), member(3)))
        cast("Any", self.driver.core).member_id = 2
        self.driver.follow(leader=1)
        self.points = DigestPoints()
        self.told: list[tuple[float, int, tuple[int, ...]]] = []
        """When, whom, and of which indexes."""
        self.heard: list[DigestReply] = []
        self.is_reachable = True
        self._target = 0

    async def connect(self, leader: Member) -> Any:
        await trio.lowlevel.checkpoint()
        if not self.is_reachable:
            raise Unavailable("no connection")
        self._target = leader.member_id
        return self

    async def call(self, method: object, report: DigestReport, *, timeout_s: float) -> DigestReply:
        await trio.lowlevel.checkpoint()
        assert method is RAFT_DIGEST
        assert report.member_id == 2
        self.told.append((trio.current_time(), self._target, tuple(p.index for p in report.points)))
        return DigestReply(diverges_at=len(self.told))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        reporter = DigestReporter(cast("Any", self.driver), self.points, self.connect, heard=self.heard.append)
        async with trio.open_nursery() as nursery:
            await nursery.start(reporter.run)
            yield
            nursery.cancel_scope.cancel()


async def test_each_new_point_is_told_and_nothing_twice(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    async with world.running():
        await trio.sleep(60)
        assert world.told == []
        world.points._keep(point(64))
        await trio.sleep(60)
        world.points._keep(point(128))
        await trio.sleep(600)
    assert [(whom, indexes) for _, whom, indexes in world.told] == [(1, (64,)), (1, (64, 128))]
    assert world.heard == [DigestReply(diverges_at=1), DigestReply(diverges_at=2)]


async def test_many_points_in_a_moment_are_one_report(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    async with world.running():
        await trio.sleep(10)
        for number in range(1, 101):
            world.points._keep(point(64 * number))
            await trio.sleep(0.1)
        await trio.sleep(5)
    assert 10 <= len(world.told) <= 10 / PAUSE_S + 2
    assert world.told[-1][2][-1] == 6400


async def test_a_new_leader_and_a_new_term_are_told_at_once(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    world.points._keep(point(64))
    async with world.running():
        await trio.sleep(60)
        world.driver.core.term = 2
        world.driver.follow(leader=3)
        await trio.sleep(0.1)
        assert [whom for _, whom, _ in world.told] == [1, 3]
        await trio.sleep(60)
        world.driver.core.term = 3
        world.driver.follow(leader=3)
        await trio.sleep(60)
    assert [whom for _, whom, _ in world.told] == [1, 3, 3]


async def test_a_leader_out_of_reach_is_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    world.is_reachable = False
    world.points._keep(point(64))
    async with world.running():
        await trio.sleep(60)
        world.is_reachable = True
        await trio.sleep(PAUSE_S + RETRY_S)
        assert len(world.told) == 1


async def test_nobody_is_told_without_a_leader_by_the_leader_or_by_one_that_is_out(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World()
    world.points._keep(point(64))
    world.driver.follow(leader=0)
    async with world.running():
        await trio.sleep(30)
        world.driver.follow(leader=2)
        await trio.sleep(30)
        world.driver.leader = 1
        world.driver.configure(member(1), member(3))
        await trio.sleep(30)
        assert world.told == []
        world.driver.configure(member(1), member(2), member(3))
        await trio.sleep(30)
        assert len(world.told) == 1
