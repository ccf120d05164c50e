"""Several managers at once: what happens to writes, reads, logs and members when the lead changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from swarmd.errors import OutcomeUnknown, PermissionDenied, Unavailable
from swarmd.model import Node
from swarmd.raft import ChangeKind, MembershipChange, Message, MessageType
from swarmd.state.command import IdempotencyKey
from swarmd.state.transaction import Transaction
from swarmd.storage.memory import MemoryLogStore
from swarmd.wire.identity import Caller
from swarmd.wire.raft_codec import encode_message
from tests.unit.manager.raft_cluster import LATENCY_S, Cluster, FakeManager, identity_of, member, open_cluster
from tests.unit.manager.swarm_fixture import call_of


def creating(node_id: str) -> Callable[[Transaction], str]:
    def fn(tx: Transaction) -> str:
        tx.create(Node(id=node_id))
        return node_id

    return fn


async def write(manager: FakeManager, node_id: str, key: IdempotencyKey | None = None) -> int:
    _, index = await manager.store.update(creating(node_id), actor="test", key=key)
    return index


def others(cluster: Cluster, than: FakeManager) -> list[int]:
    return [m for m in cluster.managers if m != than.member_id]


async def test_a_write_is_applied_on_every_manager(autojump_clock: trio.testing.MockClock) -> None:
    async with open_cluster() as cluster:
        leader = await cluster.leader()
        index = await write(leader, "a")
        await cluster.until_applied(index, *cluster.managers)
        digests = {m.driver.state.digest for m in cluster.managers.values()}
        assert len(digests) == 1
        assert all(m.driver.state.node("a") for m in cluster.managers.values())


async def test_a_new_leader_is_there_within_three_seconds(autojump_clock: trio.testing.MockClock) -> None:
    async with open_cluster() as cluster:
        leader = await cluster.leader()
        await cluster.stop(leader.member_id)
        killed_at = trio.current_time()
        new = await cluster.leader()
        await write(new, "after")
        assert trio.current_time() - killed_at < 3.0


async def test_a_write_that_another_term_superseded_surely_did_not_happen(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster() as cluster:
        old = await cluster.leader()
        cluster.cut_off(old.member_id)
        caught: list[BaseException] = []

        async def lost() -> None:
            try:
                await write(old, "lost")
            except Unavailable as error:
                caught.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lost)
            new = await cluster.leader(*others(cluster, old))
            await write(new, "kept")
            cluster.heal()
        assert type(caught[0]) is Unavailable
        await cluster.until(lambda: old.driver.state.node("kept") is not None)
        assert old.driver.state.node("lost") is None


async def test_a_write_whose_fate_cannot_be_learned_in_time_is_unknown(autojump_clock: trio.testing.MockClock) -> None:
    async with open_cluster() as cluster:
        old = await cluster.leader()
        cluster.cut_off(old.member_id)
        began = trio.current_time()
        with pytest.raises(OutcomeUnknown):
            await write(old, "nobody knows")
        assert trio.current_time() - began <= 11.0


async def test_a_keyed_write_is_found_in_the_snapshot_that_took_its_entrys_place(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster() as cluster:
        old = await cluster.leader()
        key = IdempotencyKey(b"k", b"h" * 32, old.driver.applied)
        indexes: list[int] = []

        async def write_with_key() -> None:
            indexes.append(await write(old, "kept", key))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_with_key)
            # The entry leaves, its acknowledgement does not come back.
            while old.driver.core.last_index == key.seen_index:
                await trio.lowlevel.checkpoint()
            await trio.sleep(1.5 * LATENCY_S)
            cluster.cut_off(old.member_id)
            new = await cluster.leader(*others(cluster, old))
            await cluster.until(lambda: new.driver.state.node("kept") is not None)
            cluster.snapshot_interval = 1
            await write(new, "another")
            await cluster.until(lambda: new.driver.core.first_index > indexes_end(new))
            cluster.heal()
        kept = old.driver.state.node("kept")
        assert kept is not None
        assert indexes == [kept.meta.version]


def indexes_end(manager: FakeManager) -> int:
    """The index of the write before the last."""
    kept = manager.driver.state.node("kept")
    assert kept is not None
    return kept.meta.version


async def test_a_loop_of_an_ended_reign_cannot_write_in_a_later_one(autojump_clock: trio.testing.MockClock) -> None:
    async with open_cluster(1) as cluster:
        leader = await cluster.leader()
        store = leader.store.of_reign(leader.driver.core.term)
        await store.update(creating("in its reign"), actor="loop", fenced=True)
        core = leader.driver.core
        term = core.term
        core.step(_heartbeat_of_a_later_term(leader))
        await cluster.until(lambda: leader.driver.is_leading and core.term > term)
        with pytest.raises(Unavailable):
            await store.update(creating("too late"), actor="loop", fenced=True)
        assert leader.driver.state.node("too late") is None
        assert store.term == term


def _heartbeat_of_a_later_term(manager: FakeManager) -> Message:
    return Message(type=MessageType.HEARTBEAT, source=99, target=manager.member_id, term=manager.driver.core.term + 1)


async def test_a_fenced_command_that_lands_in_another_term_is_refused_by_every_replica(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster() as cluster:
        leader = await cluster.leader()
        with pytest.raises(Unavailable):
            await leader.store.propose(creating("x"), actor="loop", term=leader.driver.core.term - 1, key=None)
        assert leader.driver.state.node("x") is None


async def test_a_follower_reads_what_was_written_before_it_asked(autojump_clock: trio.testing.MockClock) -> None:
    async with open_cluster() as cluster:
        leader = await cluster.leader()
        follower = cluster.managers[others(cluster, leader)[0]]
        await write(leader, "a")
        await follower.driver.read_index()
        assert follower.driver.state.node("a") is not None


async def test_a_read_without_a_quorum_says_what_is_missing_within_ten_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster() as cluster:
        leader = await cluster.leader()
        follower = cluster.managers[others(cluster, leader)[0]]
        cluster.cut_off(follower.member_id)
        began = trio.current_time()
        with pytest.raises(Unavailable, match="3 voting managers, 2 of them must"):
            await follower.driver.read_index()
        assert trio.current_time() - began <= 10.1


async def test_a_follower_that_lags_behind_the_log_is_sent_a_snapshot(autojump_clock: trio.testing.MockClock) -> None:
    async with open_cluster() as cluster:
        leader = await cluster.leader()
        away = others(cluster, leader)[0]
        await cluster.stop(away)
        cluster.snapshot_interval = 5
        for number in range(12):
            await write(leader, f"n{number}")
        await cluster.until(lambda: leader.driver.core.first_index > 10)
        await cluster.start(away)
        await cluster.until_applied(leader.driver.applied, away)
        lagging = cluster.managers[away]
        assert lagging.driver.state.digest == leader.driver.state.digest
        assert lagging.driver.core.snapshot.index > 0
        last = await write(leader, "afterwards")
        await cluster.until_applied(last, away)


async def test_a_member_that_restarts_has_what_it_acknowledged(autojump_clock: trio.testing.MockClock) -> None:
    async with open_cluster() as cluster:
        leader = await cluster.leader()
        last = await write(leader, "a")
        await cluster.stop(*cluster.managers)
        await cluster.start(*cluster.managers)
        leader = await cluster.leader()
        assert leader.driver.state.node("a") is not None
        assert leader.driver.applied > last


async def test_a_learner_catches_up_and_becomes_a_voter(autojump_clock: trio.testing.MockClock) -> None:
    async with open_cluster() as cluster:
        leader = await cluster.leader()
        await write(leader, "before")
        joiner = cluster.add(4, MemoryLogStore())
        joiner.hint = leader.driver.configuration
        await cluster.start(4)
        change = MembershipChange(kind=ChangeKind.ADD_LEARNER, member=member(4, is_voter=False))
        await leader.driver.change_membership(change)
        await cluster.until(lambda: 4 in joiner.driver.configuration.voters)
        assert joiner.driver.state.node("before") is not None


async def test_a_removed_member_disturbs_nobody(autojump_clock: trio.testing.MockClock) -> None:
    async with open_cluster() as cluster:
        leader = await cluster.leader()
        gone = others(cluster, leader)[0]
        term = leader.driver.core.term
        await leader.driver.change_membership(MembershipChange(kind=ChangeKind.REMOVE, member=member(gone)))
        await trio.sleep(20)
        await write(leader, "still writing")
        assert leader.driver.core.term == term


async def test_a_message_from_another_node_than_the_members_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    async with open_cluster() as cluster:
        leader = await cluster.leader()
        one, two = others(cluster, leader)
        forged = Message(type=MessageType.HEARTBEAT, source=two, target=leader.member_id, term=10**6)
        sink = leader.door.messages(call_of(Caller(identity=identity_of(one))))
        with pytest.raises(PermissionDenied):
            sink(encode_message(forged, ()))
        assert leader.driver.core.term < 10**6


async def test_a_removal_that_may_be_undone_shuts_no_door(autojump_clock: trio.testing.MockClock) -> None:
    """A leader in a minority appends the removal of a member; that member leads next and must be heard by those who
    hold the entry, to undo it."""
    async with open_cluster(5) as cluster:
        old = await cluster.leader()
        beside, target, *rest = others(cluster, old)
        cluster.cut_off(*rest, target)
        async with trio.open_nursery() as nursery:

            async def remove() -> None:
                with pytest.raises((Unavailable, OutcomeUnknown)):
                    await old.driver.change_membership(
                        MembershipChange(kind=ChangeKind.REMOVE, member=member(target)), force=True
                    )

            nursery.start_soon(remove)
            await cluster.until(
                lambda: cluster.managers[beside].driver.configuration.member(target) is None,
            )
            await cluster.stop(old.member_id)
        await trio.sleep(3)  # nobody remembers a leader any more
        cluster.heal()
        candidate = cluster.managers[target].driver
        candidate.core.campaign()
        candidate.peer_unreachable(0)  # have it look
        leader = await cluster.leader(target)
        last = await write(leader, "led by the one that was to go")
        await cluster.until_applied(last, beside)
        assert not cluster.refused
