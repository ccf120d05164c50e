from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from swarmd.errors import FailedPrecondition
from swarmd.manager.drained_leader import RETRY_S, DrainedLeader
from swarmd.model import Availability, Node, NodeSpec, Role
from swarmd.raft import ProgressView
from swarmd.state.transaction import Transaction
from tests.unit.manager.fake_driver import FakeDriver
from tests.unit.manager.local_store import LocalStore
from tests.unit.manager.raft_cluster import member


class World:
    """Member 1 leads; 2 and 3 vote and answer."""

    def __init__(self) -> None:
        self.store = LocalStore()
        members = tuple(replace(member(number), is_voter=True) for number in (1, 2, 3))
        self.driver = FakeDriver(members)
        self.driver.state = self.store.state
        self.ids = {m.member_id: m.node_id for m in members}
        self.answer(2, 3)
        for node_id in self.ids.values():
            self.store.create(Node(id=node_id, role=Role.MANAGER, spec=NodeSpec(desired_role=Role.MANAGER)))

    def answer(self, *member_ids: int) -> None:
        """Exactly these answer; the greater the id, the more of the log they have."""
        self.driver.core.views = tuple(
            ProgressView(member_id=n, match=n, next=n + 1, is_active=n == 1 or n in member_ids, ticks_since_heard=0)
            for n in (1, 2, 3)
        )

    def spec(self, number: int, **fields: Any) -> None:
        def fn(tx: Transaction) -> None:
            node = tx.node(self.ids[number])
            assert node is not None
            tx.update(replace(node, spec=replace(node.spec, **fields)))

        self.store.write(fn)

    def drain(self, number: int) -> None:
        self.spec(number, availability=Availability.DRAIN)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(DrainedLeader(cast("Any", self.driver), self.ids[1]).run)
            yield
            await trio.sleep(0.1)
            nursery.cancel_scope.cancel()


async def test_a_leader_that_is_drained_hands_over_to_the_best_of_the_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World()
    async with world.watched():
        world.drain(2)
        world.spec(3, name="x")
        await trio.sleep(60)
        assert world.driver.asked_to_lead == []
        world.drain(1)
    assert world.driver.asked_to_lead == [3]


async def test_a_reign_of_a_node_that_is_drained_already_ends_at_once(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    world.drain(1)
    async with world.watched():
        pass
    assert world.driver.asked_to_lead == [3]


@pytest.mark.parametrize("reason", ["drained", "being demoted", "away", "rolled back"])
async def test_nobody_is_handed_the_lead_who_is_no_better(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture, reason: str
) -> None:
    caplog.set_level(logging.WARNING)
    world = World()
    match reason:
        case "drained":
            world.drain(3)
        case "being demoted":
            world.spec(3, desired_role=Role.WORKER)
        case "away":
            world.answer(2)
        case _:
            views = world.driver.core.views
            world.driver.core.views = (*views[:2], replace(views[2], is_rolled_back=True))
    world.drain(1)
    async with world.watched():
        pass
    assert world.driver.asked_to_lead == [2]
    assert not caplog.records


async def test_a_lead_that_nobody_can_take_is_kept_told_once_and_offered_again(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    world = World()
    world.answer()
    world.drain(1)
    async with world.watched():
        await trio.sleep(4 * RETRY_S)
        assert world.driver.asked_to_lead == []
        world.answer(2)
        await trio.sleep(RETRY_S)
        world.driver.transfer_error = FailedPrecondition("it went away")
    assert world.driver.asked_to_lead[0] == 2
    assert len(caplog.records) == 1
