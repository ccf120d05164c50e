from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest
import trio
import trio.testing
from msgspec.structs import replace

from swarmd.errors import FailedPrecondition, NotFound, PermissionDenied, Unauthenticated, Unavailable
from swarmd.manager.members import Members
from swarmd.model import Cluster, Node, NodeSpec, Role
from swarmd.raft import Configuration
from swarmd.state.transaction import Transaction
from swarmd.storage.memory import MemoryLogStore
from swarmd.wire.identity import Caller, Identity
from swarmd.wire.methods import RAFT_JOIN
from swarmd.wire.peer import HealthReply, JoinRequest, LeaveRequest
from tests.unit.manager.raft_cluster import Cluster as Managers
from tests.unit.manager.raft_cluster import FakeManager, identity_of, node_of, open_cluster
from tests.unit.manager.swarm_fixture import SWARM, call_of

NEW = "node-9"
ADDRESSES = ("10.0.0.9:4242",)


class Answering:
    """Whoever answers at the joiner's address."""

    def __init__(self) -> None:
        self.node_id = NEW
        self.silent = False

    @asynccontextmanager
    async def dial(self, address: str) -> AsyncIterator[Any]:
        await trio.lowlevel.checkpoint()
        if self.silent:
            await trio.sleep_forever()
        if address not in (*ADDRESSES, "10.0.0.10:4242"):
            raise Unavailable(f"cannot connect to {address}")
        yield self

    @property
    def peer(self) -> Caller:
        return Caller(identity=Identity(node_id=self.node_id, role=Role.MANAGER, swarm_id=SWARM))

    async def call(self, method: object, request: object) -> HealthReply:
        await trio.lowlevel.checkpoint()
        return HealthReply(node_id=NEW)


@asynccontextmanager
async def a_swarm() -> AsyncIterator[tuple[Managers, FakeManager, Members, Answering]]:
    """Three managers; the leader's `Members`; a fourth node that holds a manager's certificate."""
    async with open_cluster() as cluster:
        leader = await cluster.leader()

        def fn(tx: Transaction) -> None:
            tx.create(Cluster(id=SWARM, feature_level=("base.1",)))
            for node_id in (*(node_of(m) for m in cluster.managers), NEW):
                tx.create(Node(id=node_id, role=Role.MANAGER, spec=NodeSpec(desired_role=Role.MANAGER)))

        await leader.store.update(fn, actor="test")
        answering = Answering()
        rng = leader.store._rng
        members = Members(leader.driver, node_of(leader.member_id), cast("Any", answering.dial), rng)
        yield cluster, leader, members, answering


def call(node_id: str = NEW) -> Any:
    return call_of(Caller(identity=Identity(node_id=node_id, role=Role.MANAGER, swarm_id=SWARM)), method=RAFT_JOIN)


def request(**changes: Any) -> JoinRequest:
    plain = JoinRequest(addresses=ADDRESSES, incarnation=b"i" * 16, features=("base.1",))
    return msgspec.structs.replace(plain, **changes)


async def test_a_manager_that_answers_becomes_a_learner_with_an_id_of_its_own(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_swarm() as (_, _, members, _):
        reply = await members.join(call(), request())
        joined = reply.configuration.member(reply.member_id)
        assert joined is not None
        assert (joined.node_id, joined.addresses, joined.is_voter) == (NEW, ADDRESSES, False)


async def test_asking_again_with_its_id_is_idempotent_and_tells_new_addresses(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_swarm() as (_, leader, members, _):
        first = await members.join(call(), request())
        index = leader.driver.core.last_index
        again = await members.join(call(), request(member_id=first.member_id))
        assert (again.member_id, leader.driver.core.last_index) == (first.member_id, index)
        moved = await members.join(call(), request(member_id=first.member_id, addresses=("10.0.0.10:4242",)))
        joined = moved.configuration.member(first.member_id)
        assert joined is not None
        assert joined.addresses == ("10.0.0.10:4242",)


async def test_a_node_with_a_new_disk_gets_a_new_id_and_the_old_one_never_comes_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_swarm() as (_, _, members, _):
        old = await members.join(call(), request())
        new = await members.join(call(), request())
        assert new.member_id != old.member_id
        assert old.member_id in new.configuration.removed
        assert [m.member_id for m in new.configuration.members if m.node_id == NEW] == [new.member_id]


@pytest.mark.parametrize(
    ("role", "desired"), [(Role.WORKER, Role.WORKER), (Role.MANAGER, Role.WORKER), (Role.WORKER, Role.MANAGER)]
)
async def test_only_a_manager_that_is_to_stay_one_may_join(
    autojump_clock: trio.testing.MockClock, role: Role, desired: Role
) -> None:
    async with a_swarm() as (_, leader, members, _):

        def fn(tx: Transaction) -> None:
            node = tx.node(NEW)
            assert node is not None
            tx.update(msgspec.structs.replace(node, role=role, spec=NodeSpec(desired_role=desired)))

        await leader.store.update(fn, actor="test")
        with pytest.raises(PermissionDenied):
            await members.join(call(), request())


async def test_nobody_joins_without_a_certificate_or_a_node(autojump_clock: trio.testing.MockClock) -> None:
    async with a_swarm() as (_, _, members, _):
        with pytest.raises(Unauthenticated):
            await members.join(call_of(Caller(), method=RAFT_JOIN), request())
        with pytest.raises(NotFound):
            await members.join(call("node-unknown"), request())


async def test_a_manager_that_cannot_be_dialed_back_is_not_let_in(autojump_clock: trio.testing.MockClock) -> None:
    async with a_swarm() as (_, leader, members, answering):
        last = leader.driver.core.last_index
        with pytest.raises(FailedPrecondition, match=r"cannot connect to 1\.2\.3\.4:5"):
            await members.join(call(), request(addresses=("1.2.3.4:5",)))
        answering.node_id = "node-1"
        with pytest.raises(FailedPrecondition, match="another node"):
            await members.join(call(), request())
        answering.silent = True
        with pytest.raises(FailedPrecondition, match="no answer within 5 s"):
            await members.join(call(), request())
        assert leader.driver.core.last_index == last


async def test_software_that_lacks_what_the_log_uses_is_not_let_in(autojump_clock: trio.testing.MockClock) -> None:
    async with a_swarm() as (_, leader, members, _):
        last = leader.driver.core.last_index
        with pytest.raises(FailedPrecondition, match=r"base\.1"):
            await members.join(call(), request(features=()))
        assert leader.driver.core.last_index == last


async def test_a_member_leaves_for_itself_only_and_twice_is_fine(autojump_clock: trio.testing.MockClock) -> None:
    async with a_swarm() as (cluster, leader, members, _):
        other = next(m for m in cluster.managers if m != leader.member_id)
        await members.leave(call(node_of(other)), LeaveRequest())
        await members.leave(call(node_of(other)), LeaveRequest())
        assert members.configuration().member(other) is None
        assert len(members.configuration().members) == 2


async def test_a_removal_that_could_cost_the_quorum_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    async with a_swarm() as (cluster, leader, members, _):
        dead, alive = [m for m in cluster.managers if m != leader.member_id]
        await cluster.stop(dead)
        await trio.sleep(3)
        with pytest.raises(FailedPrecondition, match="quorum"):
            await members.remove_member(node_of(alive))
        await members.remove_member(node_of(dead))


async def test_a_member_is_removed_and_not_the_one_its_node_has_become(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_swarm() as (_, leader, members, _):
        other = next(m for m in members.configuration().members if m.member_id != leader.member_id)
        await members.remove_exactly(replace(other, member_id=99))
        assert members.configuration().member(other.member_id) == other
        await members.remove_exactly(other)
        assert members.configuration().member_of_node(other.node_id) is None


async def test_the_lead_is_handed_over_by_the_time_it_returns(autojump_clock: trio.testing.MockClock) -> None:
    async with a_swarm() as (cluster, leader, members, _):
        began = trio.current_time()
        await members.transfer_leadership()
        assert not leader.driver.core.is_leader
        assert trio.current_time() - began < 0.5
        await cluster.leader(*(m for m in cluster.managers if m != leader.member_id))


async def test_a_joiner_with_an_empty_log_hears_the_leader_it_was_told_of(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_swarm() as (cluster, leader, members, _):
        reply = await members.join(call(), request())
        joiner = cluster.add(reply.member_id, MemoryLogStore())
        joiner.hint = Configuration(members=reply.configuration.members)
        cluster.nodes[reply.member_id] = NEW
        await cluster.start(reply.member_id)
        await cluster.until(lambda: reply.member_id in leader.driver.configuration.voters)
        assert identity_of(leader.member_id).node_id in {m.node_id for m in joiner.driver.configuration.members}
        assert cluster.refused == []
