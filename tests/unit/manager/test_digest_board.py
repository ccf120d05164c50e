"""The door at which members tell their digests, and what becomes of what they say."""

from __future__ import annotations

from typing import Any, cast

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from swarmd.errors import Invalid, PermissionDenied, Unavailable
from swarmd.manager.digests.board import ANSWER_S_MAX, DigestBoard
from swarmd.manager.digests.points import POINTS_MAX, DigestPoints, hash_form
from swarmd.wire.identity import Caller
from swarmd.wire.peer import DigestPoint, DigestReply, DigestReport
from tests.unit.manager.fake_driver import FakeDriver
from tests.unit.manager.raft_cluster import identity_of, member
from tests.unit.manager.swarm_fixture import call_of
from tests.unit.manager.test_digest_votes import point

RIGHT = (point(64), point(256, content="right"))
WRONG_HISTORY = (point(64, "wrong"),)
WRONG_CONTENT = (point(64), point(256, content="wrong"))


class World:
    """Member 1 leads in term 1 and holds what is right."""

    def __init__(self, size: int = 3) -> None:
        self.driver = FakeDriver(tuple(member(n) for n in range(1, size + 1)))
        cast("Any", self.driver.core).member_id = 1
        self.driver.lead(1)
        self.own = DigestPoints()
        for each in RIGHT:
            self.own._keep(each)
        self.divergences = 0
        self.board = DigestBoard(cast("Any", self.driver), self.own, on_divergence=self._diverge)

    def _diverge(self) -> None:
        self.divergences += 1

    async def tell(self, member_id: int, points: tuple[DigestPoint, ...], form: bytes | None = None) -> DigestReply:
        report = DigestReport(member_id=member_id, points=points, hash_form=hash_form() if form is None else form)
        return await self.board.report(call_of(Caller(identity=identity_of(member_id))), report)


async def test_members_that_agree_are_told_so_at_once(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    assert await world.tell(2, RIGHT) == DigestReply()
    assert await world.tell(3, RIGHT) == DigestReply()
    assert trio.current_time() == 0
    assert (world.board.findings().agreed_at, world.board.findings().agreeing) == (256, (1, 2, 3))


async def test_one_that_differs_is_answered_once_another_one_has_told(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    answers: list[DigestReply] = []

    async def tell_wrong() -> None:
        answers.append(await world.tell(3, WRONG_HISTORY))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell_wrong)
        await trio.sleep(1)
        assert answers == []
        await world.tell(2, RIGHT)
        await trio.sleep(0.1)
        assert answers == [DigestReply(diverges_at=64)]


async def test_it_is_answered_even_if_it_was_removed_meanwhile(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    answers: list[DigestReply] = []

    async def tell_wrong() -> None:
        answers.append(await world.tell(3, WRONG_CONTENT))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell_wrong)
        await trio.sleep(1)
        await world.tell(2, RIGHT)
        world.driver.configure(member(1), member(2))
    assert answers == [DigestReply(diverges_at=256)]


async def test_nobody_waits_long_for_others_that_do_not_tell(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    assert await world.tell(3, WRONG_HISTORY) == DigestReply()
    assert trio.current_time() == pytest.approx(ANSWER_S_MAX)


async def test_a_report_takes_the_place_of_the_one_before(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    await world.tell(2, RIGHT)
    await world.tell(3, WRONG_HISTORY)
    assert world.board.findings().of_member(3)
    assert await world.tell(3, (point(128),)) == DigestReply(diverges_at=64)
    assert not world.board.findings().diverging


async def test_what_was_told_in_an_earlier_term_counts_nothing(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    await world.tell(2, RIGHT)
    await world.tell(3, WRONG_HISTORY)
    world.driver.lead(2)
    assert not world.board.findings().diverging
    world.driver.follow(leader=2)
    assert world.board.findings().agreed_at == 0
    with pytest.raises(Unavailable):
        await world.tell(2, RIGHT)


async def test_full_hashes_of_another_version_are_not_compared(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    await world.tell(2, RIGHT)
    assert await world.tell(3, WRONG_CONTENT, b"another") == DigestReply()
    assert not world.board.findings().diverging
    assert (await world.tell(3, WRONG_HISTORY, b"another")).diverges_at == 64


async def test_a_member_speaks_for_itself_only(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    report = DigestReport(member_id=3, points=RIGHT)
    for caller in (Caller(identity=identity_of(2)), Caller()):
        with pytest.raises(PermissionDenied):
            await world.board.report(call_of(caller), report)
    with pytest.raises(PermissionDenied):
        await world.tell(9, RIGHT)


@pytest.mark.parametrize(
    "points",
    [
        tuple(point(64 * n) for n in range(POINTS_MAX + 1)),
        (replace(RIGHT[0], digest=b"short"),),
        (replace(RIGHT[0], state_hash=b"short"),),
    ],
)
async def test_nonsense_is_refused(autojump_clock: trio.testing.MockClock, points: tuple[DigestPoint, ...]) -> None:
    world = World()
    with pytest.raises(Invalid, match=r"points|digest"):
        await world.tell(2, points)
    assert world.board.findings().agreeing == ()


async def test_a_member_that_hears_that_it_diverges_keeps_evidence_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World()
    for reply in (DigestReply(), DigestReply(diverges_at=64), DigestReply(diverges_at=64)):
        world.board.heard(reply)
    assert (world.divergences, world.board.diverges_at) == (1, 64)
    assert world.board.alarm_here == "the state of this manager is not the quorum's, at entry 64 or before"
    world.board.heard(DigestReply())
    world.board.alarm = "as leader"
    assert world.board.alarm_here == "as leader"
