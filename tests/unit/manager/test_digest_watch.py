"""What the leader does about states that differ, by what is found."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trio
import trio.testing

from swarmd.errors import FailedPrecondition
from swarmd.manager.bell import Bell
from swarmd.manager.digests.votes import Divergence, Findings
from swarmd.manager.digests.watch import LOOK_S, PAUSE_S, SETTLE_S, DigestWatch
from swarmd.raft import Member, ProgressView
from tests.unit.manager.fake_driver import FakeDriver
from tests.unit.manager.raft_cluster import member

Clock = trio.testing.MockClock


def diverging(member_id: int, *majority: int) -> Findings:
    found = Divergence(member_id=member_id, index=64, of="history", majority=majority)
    return Findings(agreed_at=64, diverging=(found,))


class World:
    """Member 1 of five leads."""

    def __init__(self) -> None:
        self.driver = FakeDriver(tuple(member(n) for n in range(1, 6)))
        cast("Any", self.driver.core).member_id = 1
        self.driver.lead(1)
        self.answer(2, 3, 4, 5)
        self.news = Bell()
        self.alarm = ""
        self.found = Findings()
        self.removed: list[int] = []
        self.refusal: FailedPrecondition | None = None

    def answer(self, *member_ids: int) -> None:
        """Exactly these answer; the greater the id, the more of the log they have."""
        self.driver.core.views = tuple(
            ProgressView(member_id=n, match=n, next=n + 1, is_active=n == 1 or n in member_ids, ticks_since_heard=0)
            for n in range(1, 6)
        )

    def findings(self) -> Findings:
        return self.found

    def find(self, found: Findings) -> None:
        self.found = found
        self.news.ring()

    async def remove_exactly(self, member: Member) -> None:
        await trio.lowlevel.checkpoint()
        if self.refusal is not None:
            raise self.refusal
        self.removed.append(member.member_id)
        self.driver.configure(*(m for m in self.driver.configuration.members if m != member))
        self.found = Findings()

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        watch = DigestWatch(cast("Any", self.driver), cast("Any", self), cast("Any", self), {})
        async with trio.open_nursery() as nursery:
            await nursery.start(watch.run)
            yield
            nursery.cancel_scope.cancel()


async def test_who_diverges_is_removed_at_once(autojump_clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    world = World()
    async with world.watched():
        await trio.sleep(100)
        world.find(diverging(3, 1, 2, 4))
        await trio.sleep(0.1)
        assert (world.removed, world.alarm) == ([3], "")
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "manager node-3 (member 3) diverges from members 1, 2, 4: another history at entry 64" in record.getMessage()


async def test_a_removal_that_is_refused_is_an_alarm_until_it_is_carried_out(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    world = World()
    world.refusal = FailedPrecondition("it could cost the quorum")
    async with world.watched():
        world.find(diverging(3, 1, 2, 4))
        await trio.sleep(10 * LOOK_S)
        assert world.alarm == (
            "manager node-3 (member 3) diverges at entry 64 and stays for now: it could cost the quorum"
        )
        assert len(caplog.records) == 2, "who diverges and why it stays, once each"
        world.refusal = None
        await trio.sleep(2 * LOOK_S)
        assert (world.removed, world.alarm) == ([3], "")


async def test_a_leader_that_is_wrong_removes_nobody_and_hands_over_to_the_best_that_is_right(
    autojump_clock: Clock,
) -> None:
    world = World()
    world.answer(2, 3, 5)
    async with world.watched():
        found = diverging(1, 2, 3, 4).diverging + diverging(5, 2, 3, 4).diverging
        world.find(Findings(diverging=found))
        await trio.sleep(PAUSE_S + 0.1)
        assert world.driver.asked_to_lead == [3], "5 has more of the log and is wrong; 4 does not answer"
        assert "the leader diverges from members 2, 3, 4" in world.alarm
        await trio.sleep(3 * LOOK_S)
    assert len(world.driver.asked_to_lead) >= 3
    assert world.removed == []


async def test_a_learner_inherits_nothing(autojump_clock: Clock) -> None:
    world = World()
    world.driver.configure(*(member(n, is_voter=n < 5) for n in range(1, 6)))
    async with world.watched():
        world.find(diverging(1, 2, 3, 5))
        await trio.sleep(PAUSE_S + 0.1)
        assert world.driver.asked_to_lead == [3]


@pytest.mark.parametrize("is_refused", [True, False])
async def test_a_wrong_leader_that_nobody_can_follow_says_so(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture, is_refused: bool
) -> None:
    caplog.set_level(logging.ERROR)
    world = World()
    if is_refused:
        world.driver.transfer_error = FailedPrecondition("it went away")
    else:
        world.answer(5)
    async with world.watched():
        world.find(diverging(1, 2, 3, 4))
        await trio.sleep(3 * LOOK_S)
        assert world.alarm.endswith("and none of those can take the lead")
        assert len(caplog.records) == 1


async def test_a_tie_is_an_alarm_once_nobody_else_has_told(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    world = World()
    tie = Findings(undecided_at=128, sides=((1, 2), (3, 4)))
    async with world.watched():
        world.find(tie)
        await trio.sleep(SETTLE_S / 2)
        world.find(Findings())
        await trio.sleep(1)
        world.find(tie)
        await trio.sleep(SETTLE_S - 1)
        assert world.alarm == "", "it counts from the latest beginning"
        await trio.sleep(2 * LOOK_S)
        assert world.alarm == (
            "the managers' states differ at entry 128, and no side is a quorum: members 1, 2 against members 3, 4"
        )
        world.find(Findings())
        await trio.sleep(1)
        assert world.alarm == ""
    assert world.removed == []
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


async def test_an_alarm_ends_with_the_reign(autojump_clock: Clock) -> None:
    world = World()
    async with world.watched():
        world.find(Findings(undecided_at=128, sides=((1, 2), (3, 4))))
        await trio.sleep(SETTLE_S + 2 * LOOK_S)
        assert world.alarm
    assert world.alarm == ""
