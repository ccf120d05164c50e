"""Raft's live facts, on real cores and drivers in virtual time."""

from __future__ import annotations

from typing import Any, cast

import pytest
import trio
import trio.testing

from swarmd.manager.digests.board import DigestBoard
from swarmd.manager.raft_facts import RaftFacts
from swarmd.wire.control import Reachability
from swarmd.wire.peer import DigestPoint
from tests.unit.manager.raft_cluster import Cluster, FakeManager, open_cluster


class Links:
    """Which members are linked."""

    def __init__(self, *member_ids: int) -> None:
        self.up = set(member_ids)

    def is_linked(self, member_id: int) -> bool:
        return member_id in self.up


def facts_of(manager: FakeManager, *linked: int) -> RaftFacts:
    board = DigestBoard(manager.driver, manager.driver.digests, on_divergence=lambda: None)
    return RaftFacts(manager.driver, cast("Any", Links(*(linked or (1, 2, 3)))), board)


def others(cluster: Cluster, leader: FakeManager) -> list[FakeManager]:
    return [manager for manager in cluster.managers.values() if manager is not leader]


async def test_the_leader_knows_how_far_each_member_is(autojump_clock: trio.testing.MockClock) -> None:
    async with open_cluster() as cluster:
        leader = await cluster.leader()
        away = others(cluster, leader)[0]
        await cluster.until(
            lambda: all(p.match == leader.driver.core.last_index for p in leader.driver.core.progress())
        )
        cluster.cut_off(away.member_id)
        await trio.sleep(5)
        detail = facts_of(leader).detail()
        assert (detail.role, detail.member_id) == ("leader", leader.member_id)
        assert detail.last_index == leader.driver.core.last_index
        silent = detail.members[away.member_id]
        assert silent.last_contact_s == pytest.approx(5, abs=0.5)
        assert detail.members[leader.member_id].last_contact_s == 0
        heard = [m.last_contact_s for id, m in detail.members.items() if id not in (away.member_id, leader.member_id)]
        assert heard[0] is not None
        assert heard[0] < 0.5
        views = {m.member_id: m.reachability for m in facts_of(leader).members()}
        assert views[away.member_id] is Reachability.UNREACHABLE
        assert sorted(views.values())[1:] == [Reachability.REACHABLE] * 2


async def test_the_leader_tells_how_the_states_compare(autojump_clock: trio.testing.MockClock) -> None:
    async with open_cluster() as cluster:
        leader = await cluster.leader()
        core, points = leader.driver.core, leader.driver.digests
        points._keep(DigestPoint(index=64, digest=b"l" * 32, state_hash=b"h" * 32))
        points._keep(DigestPoint(index=128, digest=b"r" * 32))
        facts = facts_of(leader)
        board = facts._board
        for manager, digest in zip(others(cluster, leader), (b"r" * 32, b"w" * 32), strict=True):
            board._of_this_term()[manager.member_id] = {128: DigestPoint(index=128, digest=digest)}
        board.alarm = "!"
        detail = facts.detail()
        assert (detail.digests.index, detail.digests.hashed_index, detail.digests.agree_at) == (128, 64, 0)
        assert (detail.digests.digest, detail.digests.state_hash) == (b"r" * 32, b"h" * 32)
        assert detail.digests.alarm == "!"
        wrong = others(cluster, leader)[1].member_id
        assert [id for id, m in detail.members.items() if m.is_diverging] == [wrong]
        assert core.member_id != wrong


async def test_a_follower_knows_its_leader_alone(autojump_clock: trio.testing.MockClock) -> None:
    async with open_cluster() as cluster:
        leader = await cluster.leader()
        follower = others(cluster, leader)[0]
        await trio.sleep(3)
        detail = facts_of(follower).detail()
        assert detail.role == "follower"
        assert set(detail.members) == {follower.member_id, leader.member_id}
        assert {m.match for m in detail.members.values()} == {None}
        heard = detail.members[leader.member_id].last_contact_s
        assert heard is not None
        assert heard < 0.5


async def test_the_age_of_a_followers_state_grows_while_it_hears_no_leader(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster() as cluster:
        leader = await cluster.leader()
        follower = others(cluster, leader)[0]
        await trio.sleep(3)
        assert (age_of(follower)) < 0.5
        cluster.cut_off(follower.member_id)
        await trio.sleep(60)
        assert age_of(follower) == pytest.approx(60, abs=1)
        cluster.heal()
        await trio.sleep(5)
        assert age_of(follower) < 0.5


async def test_a_leader_was_in_touch_with_a_majority_even_if_one_is_away(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster() as cluster:
        leader = await cluster.leader()
        one, other = others(cluster, leader)
        cluster.cut_off(one.member_id)
        await trio.sleep(10)
        assert age_of(leader) < 0.5
        cluster.cut_off(one.member_id, other.member_id)
        await trio.sleep(0.8)
        assert leader.driver.core.is_leader
        assert age_of(leader) == pytest.approx(0.8, abs=0.3)


async def test_one_that_heard_nobody_since_its_start_does_not_make_an_age_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster() as cluster:
        leader = await cluster.leader()
        first, second = others(cluster, leader)
        await cluster.stop(first.member_id)
        await cluster.stop(second.member_id)
        await cluster.stop(leader.member_id)
        await cluster.start(first.member_id)
        await trio.sleep(20)
        alone = cluster.managers[first.member_id]
        assert facts_of(alone).leader_contact_s is None
        assert facts_of(alone).leader_node_id == ""


def age_of(manager: FakeManager) -> float:
    age = facts_of(manager).leader_contact_s
    assert age is not None
    return age
