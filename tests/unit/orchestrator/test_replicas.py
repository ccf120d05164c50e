"""Creating, scaling and removing (reference orchestration 10, scenarios 33-38)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from swarmd.model import (
    Availability,
    ContainerSpec,
    NodeState,
    RestartCondition,
    RestartPolicy,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from swarmd.orchestrator import reconcile_service
from swarmd.orchestrator.slots import choose_kept, free_numbers, slots_of
from swarmd.state.batch import CHANGES_MAX
from swarmd.state.command import CommandId, Table, Verdict, encode_command
from tests.unit.orchestrator.world import World

S = TaskState


@pytest.fixture
def world() -> World:
    world = World()
    for id in ("n1", "n2", "n3"):
        world.add_node(id)
    return world


def test_a_new_service_gets_a_task_in_each_of_the_first_slots(world: World) -> None:
    world.add_service(replicas=3)
    assert world.reconcile() is None
    assert [(t.slot, t.status.state, t.desired_state) for t in world.tasks()] == [
        (1, S.NEW, S.RUNNING),
        (2, S.NEW, S.RUNNING),
        (3, S.NEW, S.RUNNING),
    ]
    task = world.tasks()[0]
    assert (task.service_id, task.service_name, task.spec_version) == ("web", "web", 1)
    assert task.status.message == "created"


def test_a_large_service_is_filled_in_transactions_of_bounded_size(world: World) -> None:
    world.add_service(replicas=CHANGES_MAX + 30)
    before = world.writes
    world.reconcile()
    assert world.writes - before == 2
    assert sorted(t.slot for t in world.tasks()) == list(range(1, CHANGES_MAX + 31))


def test_scaling_up_adds_and_scaling_down_removes_the_highest(world: World) -> None:
    world.add_service(replicas=2)
    world.settle()
    world.set_service(replicas=3)
    world.reconcile()
    assert [t.slot for t in world.wanted()] == [1, 2, 3]
    world.settle()
    world.set_service(replicas=1)
    world.reconcile()
    assert [t.slot for t in world.wanted()] == [1]
    assert [t.slot for t in world.tasks(desired_state=S.REMOVE)] == [2, 3]
    world.settle()
    assert len(world.tasks()) == 1


def test_scaling_to_none_leaves_nothing(world: World) -> None:
    world.add_service(replicas=2)
    world.settle()
    world.set_service(replicas=0)
    world.settle()
    assert world.tasks() == []


def test_a_deleted_record_is_made_again(world: World) -> None:
    world.add_service(replicas=2)
    world.settle()
    world.update(lambda tx: tx.remove(Table.TASK, world.tasks()[0].id))
    world.reconcile()
    assert [t.slot for t in world.wanted()] == [1, 2]


def test_a_removed_service_takes_all_its_tasks_along(world: World) -> None:
    world.add_service(replicas=CHANGES_MAX + 5)
    world.reconcile()
    world.remove_service()
    world.reconcile()
    assert {t.desired_state for t in world.tasks()} == {S.REMOVE}
    world.reap()
    assert world.tasks() == []


def test_slots_given_up_are_filled_again_only_once_their_old_task_has_stopped(world: World) -> None:
    """Scaling 2 -> 1 -> 2 while slot 2 is still stopping, with a policy that restarts nothing."""
    world.add_service(replicas=2, restart=RestartPolicy(condition=RestartCondition.NONE))
    world.settle()
    world.set_service(replicas=1)
    world.reconcile()
    world.set_service(replicas=2)
    assert world.reconcile() == world.now + 60
    (fresh,) = [t for t in world.wanted() if t.slot == 2]
    assert fresh.desired_state == S.READY
    world.move(world.only(desired_state=S.REMOVE), S.SHUTDOWN)
    world.reconcile()
    assert [t.desired_state for t in world.wanted()] == [S.RUNNING, S.RUNNING]


def test_two_leaders_cannot_fill_one_slot_twice(world: World) -> None:
    world.add_service(replicas=1)
    first, second = (world.state.begin(world.now, world.rng) for _ in range(2))
    verdicts = []
    commands = []
    for sequence, tx in enumerate((first, second)):
        reconcile_service(tx, "web")
        commands.append(tx.command(CommandId(1, b"b", sequence), actor="leader"))
    for command in commands:
        verdicts.append(world.state.apply(world.state.index + 1, 1, encode_command(command), command).verdict)
    assert verdicts == [Verdict.APPLIED, Verdict.CONFLICT]


@pytest.mark.parametrize(
    ("state", "availability", "is_evicted"),
    [
        (NodeState.READY, Availability.ACTIVE, False),
        (NodeState.READY, Availability.PAUSE, False),
        (NodeState.UNKNOWN, Availability.ACTIVE, False),
        (NodeState.DISCONNECTED, Availability.ACTIVE, False),
        (NodeState.DOWN, Availability.ACTIVE, True),
        (NodeState.READY, Availability.DRAIN, True),
        (NodeState.DOWN, Availability.PAUSE, True),
    ],
)
def test_which_node_conditions_evict(
    world: World, state: NodeState, availability: Availability, is_evicted: bool
) -> None:
    world.add_service(replicas=3)
    world.settle()
    world.set_node("n2", state=state, availability=availability)
    world.reconcile()
    evicted = [t for t in world.tasks(desired_state=S.SHUTDOWN) if t.node_id == "n2"]
    assert bool(evicted) is is_evicted


def test_tasks_of_a_down_node_are_replaced_at_once(world: World) -> None:
    world.add_service(replicas=3)
    world.settle()
    world.set_node("n2", state=NodeState.DOWN)
    assert world.reconcile() is None
    assert [t.desired_state for t in world.wanted()] == [S.RUNNING] * 3
    world.settle()
    assert {t.node_id for t in world.running()} == {"n1", "n3"}
    assert len(world.running()) == 3


def test_a_drained_nodes_task_is_stopped_before_its_replacement_starts(world: World) -> None:
    world.add_service(replicas=3)
    world.settle()
    world.set_node("n2", availability=Availability.DRAIN)
    assert world.reconcile() == world.now + 60
    old = world.only(desired_state=S.SHUTDOWN)
    (new,) = [t for t in world.wanted() if t.slot == old.slot]
    assert new.desired_state == S.READY
    world.move(old, S.SHUTDOWN)
    assert world.reconcile() is None  # no restart delay
    assert [t.desired_state for t in world.wanted()] == [S.RUNNING] * 3


def test_a_task_that_does_not_stop_holds_up_its_replacement_for_a_minute_at_most(world: World) -> None:
    world.add_service()
    world.settle()
    world.set_node(world.only().node_id, availability=Availability.DRAIN)
    started = world.now
    world.reconcile()
    world.now = started + 59.9
    world.reconcile()
    assert world.wanted()[0].desired_state == S.READY
    world.now = started + 60
    world.reconcile()
    assert world.wanted()[0].desired_state == S.RUNNING


def test_a_drained_node_that_dies_holds_up_nobody(world: World) -> None:
    world.add_service()
    world.settle()
    node_id = world.only().node_id
    world.set_node(node_id, availability=Availability.DRAIN)
    world.reconcile()
    world.set_node(node_id, state=NodeState.DOWN)
    world.reconcile()
    assert world.wanted()[0].desired_state == S.RUNNING


def test_tasks_of_a_removed_node_are_replaced_at_once(world: World) -> None:
    world.add_service(replicas=3)
    world.settle()
    world.set_node("n2", state=NodeState.DOWN)
    world.remove_node("n2")
    world.settle()
    assert sorted(t.slot for t in world.running()) == [1, 2, 3]


def test_a_policy_that_restarts_nothing_is_kept_on_eviction_too(world: World) -> None:
    world.add_service(replicas=3, restart=RestartPolicy(condition=RestartCondition.NONE))
    world.settle()
    world.set_node("n2", state=NodeState.DOWN)
    world.settle()
    assert len(world.tasks()) == 3
    assert len(world.running()) == 2


def test_surplus_tasks_of_one_slot_are_shut_down(world: World) -> None:
    world.add_service()
    world.settle()
    extra = replace(world.only(), id=world.update(lambda tx: tx.new_id()), status=TaskStatus(), node_id="")
    world.add_task(extra)
    world.reconcile()
    assert [t.node_id != "" for t in world.wanted()] == [True]


def make_task(slot: int, node_id: str, state: TaskState = S.RUNNING) -> Task:
    return Task(
        id=f"t{slot}",
        slot=slot,
        node_id=node_id,
        spec=TaskSpec(container=ContainerSpec(image="a")),
        status=TaskStatus(state=state),
    )


def test_scale_down_victims_are_chosen_exactly(world: World) -> None:
    """Unassigned first, then the crowded node's, then those not running, then high slots."""
    tasks = [
        make_task(1, "n1"),
        make_task(2, "n1"),
        make_task(3, "n2"),
        make_task(4, "n1"),
        make_task(5, "", S.PENDING),
        make_task(6, "n3", S.STARTING),
        make_task(7, "n3"),
    ]
    slots = list(slots_of(tasks).values())

    def kept(replicas: int) -> list[int]:
        return sorted(slot.number for slot in choose_kept(slots, replicas, world.state.node)[0])

    assert kept(6) == [1, 2, 3, 4, 6, 7]
    assert kept(5) == [1, 2, 3, 6, 7]
    assert kept(4) == [1, 2, 3, 7]
    assert kept(3) == [1, 3, 7]
    assert kept(2) == [1, 3]
    assert kept(1) == [1]


def test_scale_down_gives_up_first_what_must_leave_its_node_anyway(world: World) -> None:
    world.set_node("n1", availability=Availability.DRAIN)
    slots = list(slots_of([make_task(1, "n1"), make_task(2, "n2"), make_task(3, "n3")]).values())
    assert [slot.number for slot in choose_kept(slots, 2, world.state.node)[0]] == [2, 3]


def test_free_numbers_fill_gaps_first() -> None:
    assert free_numbers({1, 3, 4}, 3) == [2, 5, 6]
