"""A replica goes wrong among real cores, drivers and states: it is found out, removed, and heals as a new member."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from swarmd.errors import Unavailable
from swarmd.manager.digests import watch
from swarmd.manager.digests.board import DigestBoard
from swarmd.manager.digests.reporter import DigestReporter
from swarmd.manager.digests.watch import REMOVALS_MAX, SETTLE_S, DigestWatch
from swarmd.manager.members import Members
from swarmd.manager.reign import Leadership
from swarmd.model import Node, NodeSpec
from swarmd.raft import ChangeKind, Member, MembershipChange
from swarmd.state.command import Outcome
from swarmd.state.digest import AGREED_EVERY, HASH_EVERY_MIN
from swarmd.state.transaction import Transaction
from swarmd.storage.memory import MemoryLogStore
from swarmd.wire.identity import Caller
from swarmd.wire.methods import Method
from tests.unit.manager.raft_cluster import LATENCY_S, Cluster, FakeManager, identity_of, member, node_of, open_cluster
from tests.unit.manager.swarm_fixture import call_of


class Watching:
    """A manager with what compares digests; one for each life of a `FakeManager`."""

    def __init__(self, swarm: Swarm, manager: FakeManager) -> None:
        self.swarm = swarm
        self.manager = manager
        driver = manager.driver
        self.driver = driver
        self.evidence: list[int] = []
        self.board = DigestBoard(driver, driver.digests, on_divergence=lambda: self.evidence.append(driver.state.index))
        self.removals: dict[str, list[float]] = {}
        self.reporter = DigestReporter(driver, driver.digests, self._connect, heard=self.board.heard)
        members = Members(driver, self.node_id, cast("Any", None), random.Random(1))
        self.leadership = Leadership(
            driver, lambda term: [partial(DigestWatch, driver, members, self.board, self.removals)]
        )

    @property
    def node_id(self) -> str:
        return self.swarm.cluster.nodes.get(self.manager.member_id, node_of(self.manager.member_id))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.driver.digests.run)
            await nursery.start(self.reporter.run)
            await nursery.start(self.leadership.run)
            task_status.started()

    async def _connect(self, leader: Member) -> Any:
        await trio.sleep(LATENCY_S)
        return _Connection(self, self.swarm.watching[leader.member_id])


class _Connection:
    def __init__(self, source: Watching, target: Watching) -> None:
        self._source = source
        self._target = target

    async def call(self, method: Method[Any, Any], request: Any, *, timeout_s: float) -> Any:
        cluster = self._source.swarm.cluster
        if not cluster.is_open(self._source.manager.member_id, self._target.manager.member_id):
            raise Unavailable("the connection is gone")
        identity = replace(identity_of(self._source.manager.member_id), node_id=self._source.node_id)
        return await self._target.board.report(call_of(Caller(identity=identity)), request)


class Swarm:
    """A cluster whose managers compare digests."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.watching: dict[int, Watching] = {}
        self._written = 0

    async def watch(self, *member_ids: int) -> None:
        for member_id in member_ids:
            watching = self.watching[member_id] = Watching(self, self.cluster.managers[member_id])
            await self.cluster.nursery.start(watching.run)

    async def lead_by(self, member_id: int) -> FakeManager:
        """Have this member lead."""
        leader = await self.cluster.leader()
        while leader.member_id != member_id:
            leader.driver.transfer_leadership(member_id)
            await trio.sleep(1)
            leader = await self.cluster.leader()
        return leader

    async def write_until(self, index: int, *member_ids: int) -> None:
        """Apply entries until everybody (or each of these) is at `index` or beyond."""
        leader = await self.cluster.leader()
        while leader.driver.applied < index:
            self._written += 1
            await leader.store.update(partial(_write, self._written), actor="test", key=None)
        await self.cluster.until_applied(index, *(member_ids or self.cluster.managers))

    def members(self, seen_by: FakeManager) -> list[int]:
        return [m.member_id for m in seen_by.driver.configuration.members]

    async def rejoin(self, gone: int, new: int, leader: FakeManager) -> FakeManager:
        """What a manager does that noticed that it is out: another member id, nothing on its disk."""
        node_id = self.watching[gone].node_id
        await self.cluster.stop(gone)
        del self.cluster.managers[gone], self.watching[gone]
        self.cluster.nodes[new] = node_id
        joiner = self.cluster.add(new, MemoryLogStore())
        joiner.hint = leader.driver.configuration
        await self.cluster.start(new)
        await self.watch(new)
        learner = replace(member(new, is_voter=False), node_id=node_id)
        await leader.driver.change_membership(MembershipChange(kind=ChangeKind.ADD_LEARNER, member=learner))
        await self.cluster.until(lambda: new in leader.driver.configuration.voters)
        return joiner


def _write(number: int, tx: Transaction) -> None:
    """Two nodes, one of which never changes and the other with each entry."""
    busy = tx.node("busy")
    if busy is None:
        tx.create(Node(id="still", spec=NodeSpec(name="still")))
        tx.create(Node(id="busy"))
    else:
        tx.update(replace(busy, spec=replace(busy.spec, name=f"busy-{number}")))


def corrupt(manager: FakeManager) -> None:
    """A bit flips in its memory: an object is not what the log made it. Its log and verdicts stay right."""
    rows = manager.driver.state._tables.nodes
    node = rows.objects["still"]
    rows.objects["still"] = replace(node, spec=replace(node.spec, name="flipped"))


def misapply(manager: FakeManager) -> None:
    """From now on it applies commands as if they were others, as a defect in one version would."""
    state = manager.driver.state
    right: Callable[..., Outcome] = state.apply

    def wrong(index: int, term: int, body: bytes, command: Any = None) -> Outcome:
        outcome = right(index, term, body, command)
        state.digest = bytes(reversed(state.digest))
        return outcome

    cast("Any", state).apply = wrong


@asynccontextmanager
async def swarm_of(size: int) -> AsyncIterator[Swarm]:
    async with open_cluster(size) as cluster:
        swarm = Swarm(cluster)
        await swarm.watch(*cluster.managers)
        yield swarm


Clock = trio.testing.MockClock


async def test_members_that_agree_are_left_in_peace(autojump_clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with swarm_of(3) as swarm:
        leader = await swarm.lead_by(1)
        await swarm.write_until(HASH_EVERY_MIN + 1)
        await trio.sleep(3)
        found = swarm.watching[1].board.findings()
        assert (found.agreed_at, found.agreeing) == (HASH_EVERY_MIN, (1, 2, 3))
        hashes = {w.driver.digests.all[HASH_EVERY_MIN].state_hash for w in swarm.watching.values()}
        assert len(hashes) == 1
        assert hashes != {b""}
        assert swarm.members(leader) == [1, 2, 3]
        assert not caplog.records


@pytest.mark.parametrize(("go_wrong", "by"), [(misapply, AGREED_EVERY), (corrupt, HASH_EVERY_MIN)])
async def test_a_follower_that_goes_wrong_is_removed_and_heals_as_a_new_member(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture, go_wrong: Callable[[FakeManager], None], by: int
) -> None:
    caplog.set_level(logging.ERROR)
    async with swarm_of(3) as swarm:
        cluster = swarm.cluster
        leader = await swarm.lead_by(1)
        await swarm.write_until(20)
        go_wrong(cluster.managers[3])
        await swarm.write_until(by - 1)
        await trio.sleep(2 * SETTLE_S)
        assert swarm.members(leader) == [1, 2, 3], "nothing can be known yet"
        await swarm.write_until(by)
        await cluster.until(lambda: swarm.members(leader) == [1, 2])
        assert swarm.watching[1].board.alarm == ""
        await trio.sleep(5)
        wrong = swarm.watching[3]
        assert wrong.board.diverges_at == by
        assert wrong.evidence == [by]
        assert "manager node-3 (member 3) diverges from members 1, 2: another" in caplog.text
        assert caplog.text.count("the state here is not the one that a quorum of managers holds") == 1

        healed = await swarm.rejoin(3, 4, leader)
        await swarm.write_until(3 * HASH_EVERY_MIN, 1, 2, 4)
        await trio.sleep(3)
        assert swarm.watching[1].board.findings().agreeing == (1, 2, 4)
        assert healed.driver.state.state_hash() == leader.driver.state.state_hash()
        assert healed.driver.state.digest == leader.driver.state.digest
        assert swarm.members(leader) == [1, 2, 4]


async def test_a_member_that_heals_by_a_snapshot_is_compared_from_there_on(autojump_clock: Clock) -> None:
    async with swarm_of(3) as swarm:
        cluster = swarm.cluster
        leader = await swarm.lead_by(1)
        misapply(cluster.managers[3])
        cluster.snapshot_interval = 50
        await swarm.write_until(3 * AGREED_EVERY, 1, 2)
        await cluster.until(lambda: swarm.members(leader) == [1, 2])
        await cluster.until(lambda: leader.driver.core.first_index > AGREED_EVERY)
        healed = await swarm.rejoin(3, 4, leader)
        assert min(healed.driver.digests.all, default=10**6) > AGREED_EVERY
        await swarm.write_until(5 * AGREED_EVERY, 1, 2, 4)
        await trio.sleep(3)
        assert swarm.watching[1].board.findings().agreeing == (1, 2, 4)
        assert healed.driver.state.digest == leader.driver.state.digest


async def test_a_wrong_follower_that_is_sent_a_snapshot_forgets_what_it_had_noted(autojump_clock: Clock) -> None:
    """Else it would be found guilty of a state that it does not have any more."""
    async with swarm_of(3) as swarm:
        cluster = swarm.cluster
        await swarm.lead_by(1)
        wrong = cluster.managers[3]
        misapply(wrong)
        swarm.watching[3].reporter._connect = _nobody_answers
        await swarm.write_until(AGREED_EVERY)
        assert wrong.driver.digests.all
        cluster.cut_off(3)
        cluster.snapshot_interval = 20
        await swarm.write_until(2 * AGREED_EVERY + 10, 1, 2)
        await cluster.until(lambda: cluster.managers[1].driver.core.first_index > AGREED_EVERY + 1)
        cluster.heal()
        await cluster.until_applied(2 * AGREED_EVERY + 10, 3)
        assert AGREED_EVERY not in wrong.driver.digests.all


async def _nobody_answers(leader: Member) -> Any:
    raise Unavailable("no connection")


async def test_a_leader_in_the_minority_hands_over_and_is_removed_by_the_next(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with swarm_of(3) as swarm:
        cluster = swarm.cluster
        wrong = await swarm.lead_by(1)
        await swarm.write_until(20)
        corrupt(wrong)
        await swarm.write_until(HASH_EVERY_MIN)
        await cluster.until(lambda: not wrong.driver.is_leading)
        new = await cluster.leader(2, 3)
        await cluster.until(lambda: swarm.members(new) == [2, 3])
        await trio.sleep(5)
        assert "the leader diverges from members 2, 3" in caplog.text
        assert swarm.watching[1].board.diverges_at == HASH_EVERY_MIN
        healed = await swarm.rejoin(1, 4, new)
        assert healed.driver.state.node("still") == new.driver.state.node("still")


async def test_two_managers_that_differ_are_an_alarm_and_both_stay(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with swarm_of(2) as swarm:
        leader = await swarm.lead_by(1)
        misapply(swarm.cluster.managers[2])
        await swarm.write_until(AGREED_EVERY)
        await trio.sleep(SETTLE_S / 2)
        assert swarm.watching[1].board.alarm == "", "others may still tell theirs"
        await trio.sleep(SETTLE_S + 60)
        alarm = "the managers' states differ at entry 64, and no side is a quorum: member 1 against member 2"
        assert swarm.watching[1].board.alarm == alarm
        assert [r.getMessage() for r in caplog.records] == [alarm]
        assert swarm.members(leader) == [1, 2]
        await swarm.lead_by(2)
        assert swarm.watching[1].board.alarm == ""


async def test_nobody_is_removed_whom_the_quorum_needs(autojump_clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Member 2 told its digest, and is down now: without the wrong one nothing could be decided any more."""
    caplog.set_level(logging.ERROR)
    async with swarm_of(3) as swarm:
        cluster = swarm.cluster
        leader = await swarm.lead_by(1)
        misapply(cluster.managers[3])
        swarm.watching[3].reporter._connect, connect = _nobody_answers, swarm.watching[3].reporter._connect
        await swarm.write_until(AGREED_EVERY)
        await trio.sleep(3)
        cluster.cut_off(2)
        await trio.sleep(3)
        swarm.watching[3].reporter._connect = connect
        await trio.sleep(20)
        assert swarm.members(leader) == [1, 2, 3]
        alarm = swarm.watching[1].board.alarm
        assert "(member 3) diverges at entry 64 and stays for now: " in alarm
        assert "could cost the quorum" in alarm
        cluster.heal()
        await cluster.until(lambda: swarm.members(leader) == [1, 2])
        await trio.sleep(10)
        assert swarm.watching[1].board.alarm == ""


async def test_a_node_that_joining_anew_does_not_help_stays_with_an_alarm(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time costs a log on its disk, and a voter for as long as it takes."""
    again_s = 60.0  # ten minutes are 18,000 ticks of three managers
    monkeypatch.setattr(watch, "AGAIN_S", again_s)
    async with swarm_of(3) as swarm:
        cluster = swarm.cluster
        leader = await swarm.lead_by(1)
        misapply(cluster.managers[3])
        await swarm.write_until(AGREED_EVERY)
        await cluster.until(lambda: swarm.members(leader) == [1, 2])
        misapply(await swarm.rejoin(3, 4, leader))
        await swarm.write_until(3 * AGREED_EVERY, 1, 2, 4)
        await trio.sleep(30)
        assert swarm.members(leader) == [1, 2, 4]
        assert "soon after it joined anew, and stays for now" in swarm.watching[1].board.alarm
        await trio.sleep(again_s)
        assert swarm.members(leader) == [1, 2]
        misapply(await swarm.rejoin(4, 5, leader))
        await swarm.write_until(5 * AGREED_EVERY, 1, 2, 5)
        await trio.sleep(again_s + 10)
        assert swarm.members(leader) == [1, 2]
        assert len(swarm.watching[1].removals["node-3"]) == REMOVALS_MAX
        misapply(await swarm.rejoin(5, 6, leader))
        await swarm.write_until(7 * AGREED_EVERY, 1, 2, 6)
        await trio.sleep(3 * again_s)
        assert swarm.members(leader) == [1, 2, 6]
        assert swarm.watching[1].board.alarm.endswith("that it joined anew, and stays: demote it")


async def test_one_that_restarts_with_a_right_state_is_not_held_to_what_it_told_before(autojump_clock: Clock) -> None:
    async with swarm_of(3) as swarm:
        cluster = swarm.cluster
        await swarm.lead_by(1)
        misapply(cluster.managers[3])
        swarm.watching[2].reporter._connect, connect = _nobody_answers, swarm.watching[2].reporter._connect
        await swarm.write_until(AGREED_EVERY)
        await trio.sleep(3)
        assert swarm.watching[1].board.findings().undecided_at == AGREED_EVERY
        await cluster.stop(3)
        await cluster.start(3)
        await swarm.watch(3)
        await cluster.until_applied(AGREED_EVERY, 3)
        await trio.sleep(7)
        swarm.watching[2].reporter._connect = connect
        await trio.sleep(7)
        found = swarm.watching[1].board.findings()
        assert (found.agreeing, found.diverging, found.undecided_at) == ((1, 2, 3), (), 0)
