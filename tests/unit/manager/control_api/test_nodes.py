from __future__ import annotations

import pytest
from msgspec.structs import replace

from swarmd.errors import Conflict, FailedPrecondition, Invalid, NotFound
from swarmd.manager.control_api import MemberView, node_removal
from swarmd.manager.control_api.node_removal import CLOCK_SKEW_S
from swarmd.manager.control_api.views import removal_problem
from swarmd.model import Availability, NodeSpec, NodeState, Role, TaskState
from swarmd.wire.control import GetObject, ListNodes, Reachability, RemoveNode, UpdateNode
from swarmd.wire.methods import NODE_GET, NODE_LIST, NODE_REMOVE, NODE_UPDATE
from tests.unit.manager.control_api.api_world import World, task_of
from tests.unit.manager.local_store import EPOCH


@pytest.fixture
def world() -> World:
    return World()


def three_managers(world: World) -> None:
    for number in (1, 2, 3):
        world.add_node(f"m{number}", member=number)


def demotion(world: World, id: str, *, version: int = 0) -> UpdateNode:
    node = world.store.state.node(id)
    assert node is not None
    return UpdateNode(id=id, spec=replace(node.spec, desired_role=Role.WORKER), version=version)


async def test_view_joins_raft_in_and_leaves_certificates_out(world: World) -> None:
    three_managers(world)
    world.raft.cut_off("m3")
    views = (await world.ask(NODE_LIST, ListNodes())).nodes
    assert [view.node.id for view in views] == ["m1", "m2", "m3"]
    managers = [view.manager for view in views]
    assert [manager is not None and manager.is_leader for manager in managers] == [True, False, False]
    assert managers[2] is not None
    assert managers[2].reachability is Reachability.UNREACHABLE
    assert managers[2].addresses == ("m3:1",)
    for view in views:
        assert view.node.certificate.csr == view.node.certificate.certificate == b""
        assert view.node.certificate.expires_at == EPOCH + 1000


async def test_worker_has_no_manager_part(world: World) -> None:
    world.add_node("w1")
    assert (await world.ask(NODE_GET, GetObject(id="w1"))).manager is None


async def test_no_leader_is_shown_while_none_is_known(world: World) -> None:
    world.add_node("m1", member=1)
    world.raft.leader_node_id = ""
    view = await world.ask(NODE_GET, GetObject(id="m1"))
    assert view.manager is not None
    assert not view.manager.is_leader


async def test_list_filters_by_name_hostname_and_prefix(world: World) -> None:
    world.add_node("w1", name="blue")
    world.add_node("w2", name="green")

    async def ids(**filters: tuple[str, ...]) -> list[str]:
        return [view.node.id for view in (await world.ask(NODE_LIST, ListNodes(**filters))).nodes]

    assert await ids(names=("Blue",)) == ["w1"]
    assert await ids(names=("host-w2", "blue")) == ["w1", "w2"]
    assert await ids(id_prefixes=("w2", "w")) == ["w1", "w2"]
    assert await ids(id_prefixes=("w2",), names=("blue",)) == []


async def test_update_replaces_the_spec(world: World) -> None:
    node = world.add_node("w1")
    spec = NodeSpec(name="blue", labels={"disk": "ssd"}, availability=Availability.DRAIN, desired_role=Role.MANAGER)
    view = await world.ask(NODE_UPDATE, UpdateNode(id="w1", spec=spec))
    assert view.node.spec == spec
    assert view.node.role is node.role is Role.WORKER


async def test_update_at_another_version_is_a_conflict(world: World) -> None:
    world.add_node("w1")
    with pytest.raises(Conflict, match="out of sequence"):
        await world.ask(NODE_UPDATE, UpdateNode(id="w1", spec=NodeSpec(name="x"), version=99))
    version = (await world.ask(NODE_GET, GetObject(id="w1"))).node.meta.version
    await world.ask(NODE_UPDATE, UpdateNode(id="w1", spec=NodeSpec(name="x"), version=version))


async def test_unchanged_spec_writes_nothing(world: World) -> None:
    node = world.add_node("w1")
    index = world.store.state.index
    await world.ask(NODE_UPDATE, UpdateNode(id="w1", spec=node.spec))
    assert world.store.state.index == index


async def test_illegal_spec_is_refused(world: World) -> None:
    world.add_node("w1")
    with pytest.raises(Invalid):
        await world.ask(NODE_UPDATE, UpdateNode(id="w1", spec=NodeSpec(labels={"": "x"})))


# -- demotion ----------------------------------------------------------------------------------------------------------
async def test_one_of_three_reachable_managers_may_be_demoted(world: World) -> None:
    three_managers(world)
    view = await world.ask(NODE_UPDATE, demotion(world, "m3"))
    assert view.node.spec.desired_role is Role.WORKER


async def test_unreachable_manager_may_be_demoted_while_the_others_hold_the_quorum(world: World) -> None:
    three_managers(world)
    world.raft.cut_off("m3")
    await world.ask(NODE_UPDATE, demotion(world, "m3"))


async def test_demotion_that_costs_the_quorum_is_refused(world: World) -> None:
    three_managers(world)
    world.raft.cut_off("m3")
    before = world.store.state.digest
    with pytest.raises(FailedPrecondition, match="loss of quorum") as caught:
        await world.ask(NODE_UPDATE, demotion(world, "m2"))
    assert caught.value.hint is not None
    assert "1 of 2 managers would answer and 2 are needed" in caught.value.hint
    assert "managers: 3 -> 2 voters; failures tolerated: 1 -> 0" in caught.value.hint
    assert "--force" in caught.value.hint
    assert world.store.state.digest == before


async def test_a_forced_demotion_is_noted_although_it_cannot_be_carried_out_yet(world: World) -> None:
    three_managers(world)
    world.raft.cut_off("m3")
    view = await world.ask(NODE_UPDATE, replace(demotion(world, "m2"), force=True))
    assert view.node.spec.desired_role is Role.WORKER
    assert view.node.role is Role.MANAGER


async def test_a_manager_outside_raft_may_be_demoted_by_force(world: World) -> None:
    three_managers(world)
    world.raft.member_views = world.raft.member_views[:2]
    view = await world.ask(NODE_UPDATE, replace(demotion(world, "m3"), force=True))
    assert view.node.spec.desired_role is Role.WORKER


async def test_last_manager_stays(world: World) -> None:
    world.add_node("m1", member=1)
    world.add_node("w1")
    with pytest.raises(FailedPrecondition, match="last manager"):
        await world.ask(NODE_UPDATE, replace(demotion(world, "m1"), force=True))
    with pytest.raises(FailedPrecondition, match="last manager"):
        await world.ask(NODE_UPDATE, demotion(world, "m1"))


async def test_manager_that_is_being_demoted_does_not_count_as_another(world: World) -> None:
    world.add_node("m1", member=1)
    world.add_node("m2", member=2)
    await world.ask(NODE_UPDATE, demotion(world, "m2"))
    with pytest.raises(FailedPrecondition, match="last manager"):
        await world.ask(NODE_UPDATE, demotion(world, "m1"))


async def test_certified_manager_outside_raft_is_not_found(world: World) -> None:
    three_managers(world)
    world.raft.member_views = world.raft.member_views[:2]
    with pytest.raises(NotFound, match="member list"):
        await world.ask(NODE_UPDATE, demotion(world, "m3"))


async def test_promotion_that_has_not_happened_may_be_taken_back(world: World) -> None:
    world.add_node("m1", member=1)
    world.add_node("w1", desired_role=Role.MANAGER)
    view = await world.ask(NODE_UPDATE, demotion(world, "w1"))
    assert view.node.spec.desired_role is Role.WORKER


@pytest.mark.parametrize(
    ("voters", "live", "is_safe"),
    [("a", "a", False), ("ab", "ab", True), ("ab", "a", False), ("abc", "ab", False), ("abc", "bc", True),
     ("abcd", "abc", True), ("abcd", "ab", False), ("abcde", "abc", False), ("abcde", "bcd", True)],
)  # fmt: skip
def test_removing_a_is_safe_when_live_voters_are_a_majority_before_and_after(
    voters: str, live: str, is_safe: bool
) -> None:
    members = tuple(
        MemberView(
            member_id=ord(name),
            node_id=name,
            reachability=Reachability.REACHABLE if name in live else Reachability.UNREACHABLE,
        )
        for name in voters
    )
    assert (removal_problem(members, ord("a")) is None) is is_safe


def test_learner_may_always_be_removed() -> None:
    voter = MemberView(member_id=1, node_id="a", reachability=Reachability.UNREACHABLE)
    learner = MemberView(member_id=2, node_id="b", is_voter=False)
    assert removal_problem((voter, learner), 2) is None


# -- removal -----------------------------------------------------------------------------------------------------------
async def test_removal_refuses_the_node_gives_up_its_tasks_and_deletes_it_in_one_entry(world: World) -> None:
    world.add_node("w1", state=NodeState.DOWN)
    world.add_node("w2")
    world.add_tasks(
        [
            task_of("t1", "s", node="w1"),
            task_of("t2", "s", slot=2, node="w1", state=TaskState.FAILED),
            task_of("t3", "s", slot=3, node="w2"),
        ]
    )
    index = world.store.state.index
    removed = await world.ask(NODE_REMOVE, RemoveNode(id="w1"))
    state = world.store.state
    assert (removed.id, removed.version) == ("w1", index + 1)
    assert state.index == index + 1
    assert state.node("w1") is None
    refused = state.removed_node("w1")
    assert refused is not None
    assert refused.expires_at == EPOCH + 1000 + CLOCK_SKEW_S
    states = {task.id: task.status.state for task in state.tasks()}
    assert states == {"t1": TaskState.ORPHANED, "t2": TaskState.FAILED, "t3": TaskState.RUNNING}
    orphan = state.task("t1")
    assert orphan is not None
    assert "removed" in orphan.status.message


async def test_node_that_is_up_needs_force(world: World) -> None:
    world.add_node("w1")
    with pytest.raises(FailedPrecondition, match="is not down and can't be removed") as caught:
        await world.ask(NODE_REMOVE, RemoveNode(id="w1"))
    assert caught.value.hint is not None
    assert "--force" in caught.value.hint
    await world.ask(NODE_REMOVE, RemoveNode(id="w1", force=True))
    assert world.store.state.node("w1") is None


async def test_disconnected_node_needs_no_force(world: World) -> None:
    world.add_node("w1", state=NodeState.DISCONNECTED)
    await world.ask(NODE_REMOVE, RemoveNode(id="w1"))


async def test_manager_must_be_demoted_first_even_with_force(world: World) -> None:
    three_managers(world)
    with pytest.raises(FailedPrecondition, match="demoted first") as caught:
        await world.ask(NODE_REMOVE, RemoveNode(id="m3", force=True))
    assert "managers: 3 -> 2 voters; failures tolerated: 1 -> 0" in (caught.value.hint or "")
    assert world.store.state.node("m3") is not None


async def test_demoted_node_that_is_still_a_member_waits(world: World) -> None:
    three_managers(world)
    await world.ask(NODE_UPDATE, demotion(world, "m3"))
    with pytest.raises(FailedPrecondition, match="member of the raft"):
        await world.ask(NODE_REMOVE, RemoveNode(id="m3", force=True))


async def test_dead_manager_that_raft_no_longer_knows_may_be_removed(world: World) -> None:
    three_managers(world)
    world.raft.member_views = world.raft.member_views[:2]
    await world.ask(NODE_REMOVE, RemoveNode(id="m3", force=True))


async def test_unknown_node(world: World) -> None:
    with pytest.raises(NotFound):
        await world.ask(NODE_REMOVE, RemoveNode(id="w9"))
    with pytest.raises(Invalid):
        await world.ask(NODE_REMOVE, RemoveNode(id=""))


async def test_retried_removal_is_answered_as_the_first(world: World) -> None:
    world.add_node("w1", state=NodeState.DOWN)
    first = await world.ask(NODE_REMOVE, RemoveNode(id="w1"), key=b"k" * 16)
    assert await world.ask(NODE_REMOVE, RemoveNode(id="w1"), key=b"k" * 16) == first


async def test_certificate_of_unknown_end_is_refused_as_long_as_one_can_live(world: World) -> None:
    cluster = world.add_cluster()
    node = world.add_node("w1", state=NodeState.DOWN)
    world.store.write(lambda tx: tx.update(replace(node, certificate=replace(node.certificate, expires_at=0.0))))
    await world.ask(NODE_REMOVE, RemoveNode(id="w1"))
    refused = world.store.state.removed_node("w1")
    assert refused is not None
    assert refused.expires_at == EPOCH + cluster.spec.ca.node_cert_expiry_s + CLOCK_SKEW_S


async def test_many_tasks_are_given_up_in_several_entries(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (node_removal, __import__("swarmd.manager.control_api.nodes", fromlist=["nodes"])):
        monkeypatch.setattr(module, "TASKS_ORPHANED_MAX", 10)
    world.add_node("w1", state=NodeState.DOWN)
    world.add_tasks(task_of(f"t{slot:02}", "s", slot=slot, node="w1") for slot in range(1, 36))
    index = world.store.state.index
    await world.ask(NODE_REMOVE, RemoveNode(id="w1"), key=b"k" * 16)
    assert all(task.status.state is TaskState.ORPHANED for task in world.store.state.tasks())
    assert world.store.state.index - index == 5
    # A retry of a removal whose tasks are still recorded must not look for the node again.
    assert (await world.ask(NODE_REMOVE, RemoveNode(id="w1"), key=b"k" * 16)).id == "w1"
