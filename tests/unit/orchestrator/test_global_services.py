"""Global services (reference orchestration 3.1, 3.2 and 10, scenarios 55-60)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from swarmd.model import (
    Availability,
    Global,
    Membership,
    NodeState,
    RestartCondition,
    RestartPolicy,
    Task,
    TaskState,
    TaskStatus,
    UpdateConfig,
    UpdateState,
)
from swarmd.state.command import Table
from tests.unit.orchestrator.modes_world import ModesWorld

S = TaskState


def global_world(nodes: int = 3, **settings: object) -> ModesWorld:
    world = ModesWorld()
    for number in range(1, nodes + 1):
        world.add_node(f"n{number}")
    world.run(Global(), **settings)  # type: ignore[arg-type]
    world.settle()
    return world


def nodes_of(world: ModesWorld, service_id: str = "web") -> list[str]:
    return sorted(t.node_id for t in world.live(service_id))


# -- nodes come and go -------------------------------------------------------------------------------------------------
def test_each_node_gets_one_task_that_is_bound_to_it_from_the_start() -> None:
    world = ModesWorld()
    world.add_node("n1")
    world.add_node("n2")
    world.run(Global())
    world.reconcile()
    assert [(t.slot, t.node_id, t.status.state, t.desired_state) for t in world.tasks()] == [
        (0, "n1", S.NEW, S.RUNNING),
        (0, "n2", S.NEW, S.RUNNING),
    ]
    world.settle()
    assert len(world.running()) == 2


def test_a_node_that_joins_gets_a_task_and_one_that_is_removed_leaves_no_record() -> None:
    world = global_world()
    world.add_node("n4")
    world.look_at_node("n4")
    world.settle()
    assert nodes_of(world) == ["n1", "n2", "n3", "n4"]
    world.remove_node("n2")
    world.look_at_node("n2")
    world.reap()
    assert world.on("n2") == []
    assert world.is_at_rest()


def test_a_removed_service_gives_up_all_its_tasks() -> None:
    world = global_world()
    world.remove_service()
    world.reconcile()
    assert {t.desired_state for t in world.tasks()} == {S.REMOVE}
    world.agents()
    world.reap()
    assert world.tasks() == []


def test_a_node_that_waits_to_be_let_in_gets_nothing() -> None:
    world = global_world(nodes=1)
    world.add_node("n2", NodeState.UNKNOWN)
    node = world.state.node("n2")
    assert node is not None
    world.update(lambda tx: tx.update(replace(node, spec=replace(node.spec, membership=Membership.PENDING))))
    world.reconcile()
    assert nodes_of(world) == ["n1"]


@pytest.mark.parametrize("state", [NodeState.UNKNOWN, NodeState.DISCONNECTED])
def test_an_unknown_or_disconnected_node_keeps_its_task_and_gets_one_that_waits(state: NodeState) -> None:
    world = global_world(nodes=1)
    kept = world.live_on("n1").id
    world.set_node("n1", state=state)
    world.add_node("n2", state)
    world.reconcile()
    world.place()
    assert world.live_on("n1").id == kept
    assert world.live_on("n2").status.state is S.NEW


@pytest.mark.parametrize("change", ["drain", "down"])
def test_drain_and_down_shut_the_task_down_and_the_node_gets_another_when_it_is_back(change: str) -> None:
    world = global_world()
    if change == "drain":
        world.set_node("n1", availability=Availability.DRAIN)
    else:
        world.set_node("n1", state=NodeState.DOWN)
    world.look_at_node("n1")
    assert {t.desired_state for t in world.on("n1")} == {S.SHUTDOWN}
    assert world.is_at_rest()
    world.change(image="b", update=UpdateConfig(parallelism=0))
    world.settle()
    assert nodes_of(world) == ["n2", "n3"], "an update does not revive it"
    world.set_node("n1", state=NodeState.READY, availability=Availability.ACTIVE)
    world.look_at_node("n1")
    assert world.live_on("n1").spec.container.image == "b", "it gets the present spec directly"
    world.settle()
    assert len(world.running()) == 3


def test_a_paused_node_keeps_its_task_is_not_updated_and_gets_no_replacement() -> None:
    world = global_world(update=UpdateConfig(parallelism=0))
    world.set_node("n1", availability=Availability.PAUSE)
    world.set_node("n2", availability=Availability.PAUSE)
    kept = world.live_on("n1").id
    world.move(world.live_on("n2"), S.FAILED)
    world.look_at_node("n2")
    assert {t.desired_state for t in world.on("n2")} == {S.SHUTDOWN}
    world.change(image="b")
    world.settle()
    assert [t.id for t in world.live() if t.node_id != "n3"] == [kept]
    status = world.service_of().update_status
    assert status is not None
    assert status.state is UpdateState.COMPLETED, "who waits for ACTIVE holds up nobody"
    assert world.is_at_rest()
    for id in ("n1", "n2"):
        world.set_node(id, availability=Availability.ACTIVE)
        world.look_at_node(id)
    world.settle()
    assert {t.spec.container.image for t in world.running()} == {"b"}
    assert len(world.running()) == 3


def test_constraints_say_which_nodes_and_labels_may_change() -> None:
    world = ModesWorld()
    for id in ("n1", "n2"):
        world.add_node(id)
    world.label("n1", disk="ssd")
    world.run(Global(), constraints=("node.labels.disk==ssd",))
    world.settle()
    assert nodes_of(world) == ["n1"]
    world.label("n2", disk="ssd")
    world.label("n1")
    for id in ("n1", "n2"):
        world.look_at_node(id)
    assert nodes_of(world) == ["n2"]
    assert {t.desired_state for t in world.on("n1")} == {S.SHUTDOWN}


# -- tasks end ---------------------------------------------------------------------------------------------------------
def test_a_failed_task_is_replaced_on_its_node_after_the_delay() -> None:
    world = global_world()
    world.move(world.live_on("n2"), S.FAILED)
    assert world.look_at_slot("n2") == world.now + 5
    assert world.live_on("n2").desired_state is S.READY
    world.now += 5
    world.look_at_slot("n2")
    assert world.live_on("n2").desired_state is S.RUNNING


def test_attempts_are_counted_for_each_node() -> None:
    world = global_world(restart=RestartPolicy(condition=RestartCondition.ON_FAILURE, max_attempts=2, delay_s=0))
    for _ in range(5):
        for task in [t for t in world.live() if t.node_id == "n1"]:
            world.move(task, S.FAILED)
        world.settle()
    assert len(world.on("n1")) == 3
    assert nodes_of(world) == ["n2", "n3"]
    world.move(world.live_on("n2"), S.FAILED)
    world.settle()
    assert nodes_of(world) == ["n2", "n3"]


def test_what_completed_and_need_not_run_again_stays_done() -> None:
    world = global_world(restart=RestartPolicy(condition=RestartCondition.ON_FAILURE))
    world.move(world.live_on("n1"), S.COMPLETE)
    world.settle()
    assert len(world.on("n1")) == 1
    assert world.is_at_rest()


def test_a_record_that_somebody_deletes_is_made_good() -> None:
    world = global_world()  # SwarmKit does not: scenario 58
    victim = world.live_on("n1")
    world.update(lambda tx: tx.remove(Table.TASK, victim.id))
    world.look_at_slot("n1")
    assert nodes_of(world) == ["n1", "n2", "n3"]


def test_services_do_not_touch_each_other() -> None:
    world = global_world()
    world.run(Global(), "other")
    world.settle("other")
    before = [(t.id, t.desired_state) for t in world.tasks("other")]
    world.move(world.live_on("n1"), S.FAILED)
    world.change(image="b")
    world.settle()
    assert [(t.id, t.desired_state) for t in world.tasks("other")] == before


# -- a new leader ------------------------------------------------------------------------------------------------------
def odd_task(world: ModesWorld, node_id: str, state: TaskState, id: str) -> Task:
    return Task(
        id=id,
        service_id="web",
        service_name="web",
        node_id=node_id,
        spec=world.service_of().spec.task,
        spec_version=1,
        status=TaskStatus(state=state, at=world.now),
    )


def test_a_new_leader_mends_what_it_finds() -> None:
    world = ModesWorld()
    for id in ("n1", "n2", "n3", "n4"):
        world.add_node(id)
    world.set_node("n4", availability=Availability.DRAIN)
    world.run(Global())
    for id, node_id, state in (
        ("rejected", "n1", S.REJECTED),
        ("first", "n2", S.RUNNING),
        ("second", "n2", S.RUNNING),
        ("drained", "n4", S.RUNNING),
        ("homeless", "n9", S.ORPHANED),
    ):
        world.add_task(odd_task(world, node_id, state, id))
    world.reconcile()
    assert world.state.task("rejected").desired_state is S.SHUTDOWN  # type: ignore[union-attr]
    assert world.live_on("n1").desired_state is S.READY
    assert len([t for t in world.live() if t.node_id == "n2"]) == 1, "of two one goes"
    assert world.live_on("n3").status.state is S.NEW
    assert {t.desired_state for t in world.on("n4")} == {S.SHUTDOWN}
    assert {t.desired_state for t in world.on("n9")} == {S.REMOVE}
    world.settle()
    assert nodes_of(world) == ["n1", "n2", "n3"]
    assert world.on("n9") == []


# -- updates -----------------------------------------------------------------------------------------------------------
def test_an_update_goes_from_node_to_node() -> None:
    world = global_world(nodes=4, update=UpdateConfig(parallelism=2, delay_s=10, monitor_s=1))
    world.change(image="b")
    world.reconcile()
    moved = {t.node_id for t in world.tasks() if t.spec.container.image == "b"}
    assert len(moved) == 2
    status = world.service_of().update_status
    assert status is not None
    assert (status.state, status.total) == (UpdateState.UPDATING, 4)
    world.settle()
    assert {t.spec.container.image for t in world.running()} == {"b"}
    assert len(world.running()) == 4
    status = world.service_of().update_status
    assert status is not None
    assert status.state is UpdateState.COMPLETED


def test_an_update_that_fails_on_a_node_pauses_and_spreads_no_further() -> None:
    world = global_world(nodes=4)
    world.change(image="bad")
    for _ in range(30):
        world.turn(outcome=lambda t: S.FAILED if t.spec.container.image == "bad" else S.RUNNING)
        world.now += 1
    status = world.service_of().update_status
    assert status is not None
    assert status.state is UpdateState.PAUSED
    assert len({t.node_id for t in world.tasks() if t.spec.container.image == "bad"}) == 1
    world.remove_node("n1")
    world.add_node("n1b")
    world.reconcile()
    assert world.live_on("n1b").spec.container.image == "bad", "a new node has no old spec to run"


def test_history_is_kept_for_each_node() -> None:
    world = global_world(nodes=2)
    for _ in range(8):
        for task in world.live():
            world.move(task, S.FAILED)
        world.settle()
    assert [len(world.on(id)) for id in ("n1", "n2")] == [5, 5]


# -- whatever happens --------------------------------------------------------------------------------------------------
def assert_one_a_node(world: ModesWorld) -> None:
    nodes = [t.node_id for t in world.wanted()]
    assert len(nodes) == len(set(nodes))


def disturb(world: ModesWorld, rng: random.Random) -> str:
    """Returns the node that was changed, if one was."""
    what = rng.randrange(7)
    nodes = [node.id for node in world.state.nodes()]
    if what == 0 and len(nodes) < 6:
        id = f"x{world.state.index}"
        world.add_node(id)
        return id
    if what == 1 and len(nodes) > 2:
        id = rng.choice(nodes)
        world.remove_node(id)
        return id
    if what == 2:
        id = rng.choice(nodes)
        world.set_node(id, state=rng.choice(list(NodeState)), availability=rng.choice(list(Availability)))
        return id
    if what == 3:
        id = rng.choice(nodes)
        world.label(id, disk=rng.choice(("ssd", "hdd")))
        return id
    if what == 4:
        world.change(image=rng.choice("abc"))
    elif what == 5:
        world.change(constraints=rng.choice(((), ("node.labels.disk!=hdd",))))
    else:
        world.reap()
    return ""


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_once_the_world_keeps_still_each_fit_node_runs_one_task(seed: int) -> None:
    rng = random.Random(seed)
    world = global_world(update=UpdateConfig(parallelism=rng.randrange(3)))
    for _ in range(20):
        node_id = disturb(world, rng)
        world.now += rng.choice((0, 3, 70))
        if node_id and rng.random() < 0.5:
            world.look_at_node(node_id)
        else:
            world.reconcile()
        assert_one_a_node(world)
        world.place()
        if rng.random() < 0.7:
            world.agents(lambda _: rng.choice((S.RUNNING, S.RUNNING, S.FAILED)))
    for node in tuple(world.state.nodes()):
        world.set_node(node.id, state=NodeState.READY, availability=Availability.ACTIVE)
    world.change(image="final")
    world.settle(turns=400)
    fit = [n.id for n in world.state.nodes() if not world.service_of().spec.task.placement.constraints]
    fit = fit or [n.id for n in world.state.nodes() if n.spec.labels.get("disk") != "hdd"]
    assert sorted(t.node_id for t in world.running()) == sorted(fit)
    assert {t.spec.container.image for t in world.running()} <= {"final"}
    assert world.is_at_rest()
    for node in world.state.nodes():
        before = world.state.index
        world.look_at_node(node.id)
        assert world.state.index == before, "a look at a node alone agrees with one at the service"
