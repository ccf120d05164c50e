from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest
import trio
import trio.testing

from swarmd.errors import PermissionDenied, SwarmError, Unavailable
from swarmd.manager.own_membership import OUT_S, MemberReplaced, OwnMembership, warn_of_other_ticks
from swarmd.model import Cluster, ClusterSpec, RaftConfig
from swarmd.raft import Configuration, Settings
from swarmd.wire.peer import JoinReply, JoinRequest
from tests.unit.manager.fake_driver import FakeDriver
from tests.unit.manager.local_store import LocalStore
from tests.unit.manager.raft_cluster import member

HERE = member(2).addresses


class World:
    """Member 2 of three; what the others answer is set by hand."""

    def __init__(self) -> None:
        self.driver = FakeDriver((member(1), member(2), member(3)))
        self.driver.follow(1)
        self.announced: list[JoinRequest] = []
        self.refusals: list[SwarmError] = []
        self.asked: list[str] = []
        self.answer: int | SwarmError = 2

    async def join_as_known_member(self, request: JoinRequest) -> None:
        await trio.lowlevel.checkpoint()
        self.announced.append(request)
        if self.refusals:
            raise self.refusals.pop(0)
        moved = msgspec.structs.replace(member(2), addresses=request.addresses)
        self.driver.configure(member(1), moved, member(3))

    @asynccontextmanager
    async def dial(self, address: str) -> AsyncIterator[Any]:
        await trio.lowlevel.checkpoint()
        self.asked.append(address)
        if address == member(1).addresses[0]:
            raise Unavailable("not there")
        yield self

    async def call(self, method: object, request: JoinRequest, *, timeout_s: float) -> JoinReply:
        await trio.lowlevel.checkpoint()
        if isinstance(self.answer, SwarmError):
            raise self.answer
        return JoinReply(member_id=self.answer, configuration=Configuration())

    def membership(self, addresses: tuple[str, ...] = HERE) -> OwnMembership:
        return OwnMembership(
            cast("Any", self),
            JoinRequest(addresses=addresses, incarnation=b"i", member_id=2),
            own_node_id="node-2",
            known_addresses=lambda: ("9.9.9.9:1",),
            dial=cast("Any", self.dial),
        )


async def run_for(world: World, seconds: float, addresses: tuple[str, ...] = HERE) -> None:
    with trio.move_on_after(seconds):
        await world.membership(addresses).run()


async def test_a_member_that_answers_where_the_log_says_announces_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World()
    await run_for(world, 100)
    assert world.announced == []
    assert world.asked == []


async def test_new_addresses_are_announced_until_the_log_has_them(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    world.refusals = [Unavailable("no leader yet"), PermissionDenied("one change at a time")]
    await run_for(world, 30, ("10.1.1.1:1",))
    assert [request.addresses for request in world.announced] == [("10.1.1.1:1",)] * 3


async def test_a_leader_that_is_missed_for_a_moment_is_no_reason_to_ask(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.membership().run)
        for _ in range(5):
            world.driver.follow(0)
            await trio.sleep(OUT_S - 1)
            world.driver.follow(1)
            await trio.sleep(1)
        assert world.asked == []
        nursery.cancel_scope.cancel()


async def test_a_member_without_a_leader_asks_and_goes_on_if_it_still_is_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World()
    world.driver.follow(0)
    await run_for(world, 2.5 * OUT_S)
    assert world.asked == [member(1).addresses[0], member(3).addresses[0]] * 2


async def test_a_member_that_was_replaced_says_so(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    world.answer = 77
    world.driver.configure(member(1), member(3))
    began = trio.current_time()
    with pytest.RaisesGroup(MemberReplaced):
        await world.membership().run()
    assert trio.current_time() - began == pytest.approx(OUT_S)


async def test_a_demoted_manager_that_is_refused_waits_for_its_certificate(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World()
    world.answer = PermissionDenied("node-2 is not (any more) a manager")
    world.driver.configure(member(1), member(3))
    await run_for(world, 5 * OUT_S)
    assert "9.9.9.9:1" in world.asked


@pytest.mark.parametrize(("ticks", "warnings"), [((1, 10), 0), ((2, 30), 1)])
async def test_other_tick_settings_than_the_swarms_are_told_once(
    caplog: pytest.LogCaptureFixture, ticks: tuple[int, int], warnings: int
) -> None:
    class Driver:
        def __init__(self) -> None:
            self.store = LocalStore()
            self.state = self.store.state
            self.applied_more = trio.Event()

    caplog.set_level(logging.WARNING)
    driver = Driver()
    settings = Settings(heartbeat_ticks=ticks[0], election_ticks_min=ticks[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(warn_of_other_ticks, cast("Any", driver), settings)
        await trio.testing.wait_all_tasks_blocked()
        assert caplog.records == []
        spec = ClusterSpec(raft=RaftConfig(heartbeat_tick=1, election_tick=10))
        driver.store.create(Cluster(id="c", spec=spec))
        driver.applied_more.set()
    assert len(caplog.records) == warnings
