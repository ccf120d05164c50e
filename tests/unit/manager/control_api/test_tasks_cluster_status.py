from __future__ import annotations

import msgspec
import pytest

from swarmd.errors import Invalid, NotFound, ResourceExhausted, Unavailable
from swarmd.manager.control_api import DigestDetail, MemberDetail, MemberView, filters
from swarmd.wire import codec
from swarmd.wire.cluster import GetCluster
from swarmd.wire.control import (
    GetObject,
    ListTasks,
    StatusRequest,
)
from swarmd.wire.frames import FRAME_BYTES_MAX
from swarmd.wire.methods import (
    AUDIT,
    CA_UNLOCK_KEY,
    CLUSTER_GET,
    CLUSTER_UNLOCK,
    HEALTH,
    METHODS,
    RAFT_ROTATE_KEY,
    RAFT_STATUS,
    STATUS,
    TASK_GET,
    TASK_LIST,
)
from swarmd.wire.raft_status import RaftStatusRequest
from tests.unit.manager.control_api.api_world import CA_KEY, SWARM, World, task_of


@pytest.fixture
def world() -> World:
    return World()


async def listed(world: World, **filters: tuple[str, ...]) -> list[str]:
    return [task.id for task in (await world.ask(TASK_LIST, ListTasks(**filters))).tasks]


async def test_tasks_come_by_service_then_slot_newest_first(world: World) -> None:
    world.add_tasks([task_of("old", "a", slot=2)])
    world.store.write(lambda tx: tx.create(task_of("b1", "b")))
    world.add_tasks([task_of("a10", "a", slot=10), task_of("a2", "a", slot=2)])
    assert await listed(world) == ["a2", "old", "a10", "b1"]


async def test_filters_are_or_inside_and_between(world: World) -> None:
    world.add_tasks([task_of("t1", "a", node="n1"), task_of("t2", "a", slot=2, node="n2"), task_of("x3", "b")])
    assert await listed(world, service_ids=("a",)) == ["t1", "t2"]
    assert await listed(world, service_ids=("a", "b", "a")) == ["t1", "t2", "x3"]
    assert await listed(world, service_ids=("a",), node_ids=("n2",)) == ["t2"]
    assert await listed(world, node_ids=("n1", "n2")) == ["t1", "t2"]
    assert await listed(world, id_prefixes=("t", "t1")) == ["t1", "t2"]
    assert await listed(world, id_prefixes=("x",), service_ids=("a",)) == []


async def test_get_task(world: World) -> None:
    world.add_tasks([task_of("t1", "a")])
    assert (await world.ask(TASK_GET, GetObject(id="t1"))).task.service_id == "a"
    with pytest.raises(NotFound):
        await world.ask(TASK_GET, GetObject(id="t2"))
    with pytest.raises(Invalid):
        await world.ask(TASK_GET, GetObject(id=""))


async def test_more_than_one_reply_holds_is_refused_with_a_hint(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "LIST_BYTES_MAX", 400)
    world.add_tasks(task_of(f"t{slot}", "a", slot=slot, node=f"n{slot}") for slot in range(1, 9))
    with pytest.raises(ResourceExhausted, match="8 tasks match") as caught:
        await listed(world)
    assert caught.value.hint
    assert await listed(world, node_ids=("n1",)) == ["t1"]


async def test_largest_list_fits_in_a_frame(world: World) -> None:
    world.add_tasks(task_of(f"t{slot:025}", "a", slot=slot, node="n" * 25) for slot in range(1, 9))
    tasks = (await world.ask(TASK_LIST, ListTasks())).tasks
    packed = sum(len(msgspec.msgpack.encode(task)) for task in tasks)
    assert len(codec.encode(tasks)) / packed * filters.LIST_BYTES_MAX < FRAME_BYTES_MAX - 4096


async def test_cluster_shows_tokens_and_no_key(world: World) -> None:
    stored = world.add_cluster()
    cluster = (await world.ask(CLUSTER_GET, GetCluster())).cluster
    assert cluster.root_ca.key == b""
    assert cluster.root_ca.join_tokens == stored.root_ca.join_tokens
    assert cluster.root_ca.certificate == stored.root_ca.certificate
    kept = world.store.state.cluster()
    assert kept is not None
    assert kept.root_ca.key == CA_KEY


async def test_manager_without_the_state_says_so(world: World) -> None:
    with pytest.raises(Unavailable):
        await world.ask(CLUSTER_GET, GetCluster())


async def test_status_needs_no_quorum(world: World) -> None:
    world.add_cluster()
    world.raft.leader_node_id = ""
    world.raft.is_leader = False
    status = await world.ask(STATUS, StatusRequest())
    assert world.linearized == 0
    assert (status.node_id, status.swarm_id, status.leader_node_id) == ("m1", SWARM, "")
    assert status.is_manager
    assert not status.is_leader
    assert (status.term, status.commit_index, status.applied_index) == (7, 70, world.store.state.index)
    assert status.digest == world.store.state.digest
    assert status.session == "connected"
    assert status.leader_contact_s == 0.3


async def test_raft_status_is_this_managers_own_view(world: World) -> None:
    for number, id in enumerate(("m1", "m2", "m3"), 1):
        world.add_node(id, member=number)
    world.raft.cut_off("m3")
    world.raft.details = {2: MemberDetail(match=70, lag=2, last_contact_s=0.1)}
    status = await world.ask(RAFT_STATUS, RaftStatusRequest())
    assert world.linearized == 0
    assert (status.node_id, status.member_id, status.role, status.term) == ("m1", 1, "leader", 7)
    assert (status.first_index, status.last_index, status.commit_index, status.snapshot_index) == (5, 72, 70, 4)
    assert (status.voters, status.needed, status.answering, status.removed_members) == (3, 2, 2, 2)
    assert [m.node_name for m in status.members] == ["host-m1", "host-m2", "host-m3"]
    assert [m.is_leader for m in status.members] == [True, False, False]
    assert [(m.match, m.lag, m.last_contact_s) for m in status.members[1:]] == [(70, 2, 0.1), (None, None, None)]


async def test_raft_status_tells_how_the_states_compare(world: World) -> None:
    world.add_node("m1", member=1)
    world.add_node("m2", member=2)
    world.raft.details = {2: MemberDetail(is_diverging=True)}
    world.raft.digests = DigestDetail(
        index=128, digest=b"d", hashed_index=64, state_hash=b"h", agree_at=64, agreeing=2, diverges_at=3, alarm="!"
    )
    status = await world.ask(RAFT_STATUS, RaftStatusRequest())
    assert (status.digest_index, status.digest, status.state_hash_index, status.state_hash) == (128, b"d", 64, b"h")
    assert (status.digests_agree_at, status.digests_agreeing, status.diverges_at, status.alarm) == (64, 2, 3, "!")
    assert [m.is_diverging for m in status.members] == [False, True]
    assert (await world.ask(STATUS, StatusRequest())).alarm == "!"


async def test_raft_status_counts_no_learner_and_needs_no_leader(world: World) -> None:
    world.add_node("m1", member=1)
    world.raft.member_views += (MemberView(member_id=9, node_id="gone", is_voter=False),)
    world.raft.leader_node_id, world.raft.is_leader, world.raft.leader_contact_s = "", False, None
    status = await world.ask(RAFT_STATUS, RaftStatusRequest())
    assert (status.voters, status.needed, status.answering) == (1, 1, 1)
    assert (status.role, status.leader_node_id, status.leader_contact_s) == ("follower", "", None)
    assert [m.is_leader for m in status.members] == [False, False]


def test_every_control_method_is_served(world: World) -> None:
    elsewhere = {AUDIT, HEALTH, RAFT_ROTATE_KEY, CA_UNLOCK_KEY, CLUSTER_UNLOCK}
    assert set(world.handlers) == {method for method in METHODS.values() if method.socket} - elsewhere
