"""The restart policy, all of it read from the tasks (reference orchestration 5 and 10, scenarios 36-47)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from swarmd.model import Availability, NodeState, RestartCondition, RestartPolicy, TaskSpec, TaskState
from tests.unit.orchestrator.world import World

S = TaskState
ANY, ON_FAILURE, NONE = RestartCondition.ANY, RestartCondition.ON_FAILURE, RestartCondition.NONE


DEFAULT = RestartPolicy()


def running_world(restart: RestartPolicy = DEFAULT, replicas: int = 1) -> World:
    world = World()
    world.add_node("n1")
    world.add_node("n2")
    world.add_service(replicas=replicas, restart=restart)
    world.settle()
    return world


def fail_all(world: World, state: TaskState = S.FAILED) -> None:
    for task in world.wanted():
        world.move(task, state)


@pytest.mark.parametrize(
    ("condition", "state", "is_replaced"),
    [
        (ANY, S.FAILED, True),
        (ANY, S.COMPLETE, True),
        (ANY, S.REJECTED, True),
        (ANY, S.SHUTDOWN, True),
        (ON_FAILURE, S.FAILED, True),
        (ON_FAILURE, S.REJECTED, True),
        (ON_FAILURE, S.SHUTDOWN, True),
        (ON_FAILURE, S.COMPLETE, False),
        (NONE, S.FAILED, False),
        (NONE, S.COMPLETE, False),
    ],
)
def test_condition_says_what_is_replaced(condition: RestartCondition, state: TaskState, is_replaced: bool) -> None:
    world = running_world(RestartPolicy(condition=condition))
    fail_all(world, state)
    world.reconcile()
    assert bool(world.wanted()) is is_replaced
    assert world.tasks()[0].desired_state == S.SHUTDOWN


def test_the_replacement_is_prepared_at_once_and_started_after_the_delay() -> None:
    world = running_world()
    fail_all(world)
    failed_at = world.now
    assert world.reconcile() == failed_at + 5
    assert world.wanted()[0].desired_state == S.READY
    world.place()
    world.agents()
    assert world.wanted()[0].status.state == S.READY
    world.now = failed_at + 4.9
    world.reconcile()
    assert world.wanted()[0].desired_state == S.READY
    world.now = failed_at + 5
    assert world.reconcile() is None
    assert world.wanted()[0].desired_state == S.RUNNING


def test_a_replacement_that_fails_while_held_is_replaced_no_faster_than_the_delay() -> None:
    world = running_world()
    fail_all(world, S.REJECTED)
    started = world.now
    attempts = []
    for tick in range(200):
        world.now = started + tick * 0.1
        world.reconcile()
        world.place()
        fail_all(world, S.REJECTED)
        attempts.append(max(t.meta.created_at for t in world.tasks()))
    assert sorted({round(at - started, 1) for at in attempts}) == [0, 5, 10, 15]


def test_a_failure_on_a_draining_node_is_replaced_without_delay() -> None:
    world = running_world()
    fail_all(world)
    world.set_node(world.only().node_id, availability=Availability.DRAIN)
    world.reconcile()
    assert world.wanted()[0].desired_state == S.RUNNING


def test_max_attempts_restarts_each_slot_that_often_and_no_more() -> None:
    world = running_world(RestartPolicy(max_attempts=2), replicas=2)
    for _ in range(6):
        fail_all(world)
        world.settle()
    assert world.wanted() == []
    by_slot = [[t.status.state for t in world.tasks(slot=slot)] for slot in (1, 2)]
    assert by_slot == [[S.FAILED] * 3, [S.FAILED] * 3]


def test_a_slot_out_of_attempts_stays_out_whatever_the_history_limit() -> None:
    world = running_world(RestartPolicy(condition=NONE))
    world.set_history(0)
    fail_all(world)
    world.settle()
    assert len(world.tasks()) == 1
    assert world.wanted() == []


def test_a_new_template_starts_with_all_attempts() -> None:
    world = running_world(RestartPolicy(max_attempts=1))
    for _ in range(3):
        fail_all(world)
        world.settle()
    assert world.wanted() == []
    world.set_service(image="b")
    world.settle()
    assert len(world.running()) == 1
    fail_all(world)
    world.settle()
    assert len(world.running()) == 1
    fail_all(world)
    world.settle()
    assert world.running() == []


def test_scaling_does_not_give_a_slot_new_attempts() -> None:
    world = running_world(RestartPolicy(max_attempts=1))
    fail_all(world)
    world.settle()
    world.set_service(replicas=2)
    world.settle()
    world.move(world.wanted()[0], S.FAILED)
    world.settle()
    assert [t.slot for t in world.wanted()] == [2]


def test_evictions_use_up_no_attempts() -> None:
    world = running_world(RestartPolicy(max_attempts=1))
    for _ in range(4):
        node_id = world.wanted()[0].node_id
        world.set_node(node_id, state=NodeState.DOWN)
        world.settle()
        world.set_node(node_id, state=NodeState.READY)
        world.settle()
    assert len(world.running()) == 1
    fail_all(world)
    world.settle()
    assert len(world.running()) == 1


def test_only_ends_within_the_window_count() -> None:
    world = running_world(RestartPolicy(max_attempts=1, window_s=20))
    fail_all(world)
    world.settle()
    world.now += 30
    fail_all(world)
    world.settle()
    assert len(world.running()) == 1  # the first end is outside
    fail_all(world)
    world.settle()
    assert world.running() == []


@pytest.mark.parametrize("delay_s", [12, 30, 300])
def test_a_delay_longer_than_the_window_does_not_make_attempts_unlimited(delay_s: float) -> None:
    world = running_world(RestartPolicy(max_attempts=2, window_s=30, delay_s=delay_s))
    for _ in range(5):
        fail_all(world)
        world.settle()
    assert world.running() == []


def test_a_new_leader_goes_on_with_the_remaining_delay() -> None:
    """All is read from the store: nothing but the state is handed over."""
    world = running_world()
    fail_all(world)
    created_at = world.now
    world.reconcile()
    world.now += 3
    assert world.reconcile() == created_at + 5


def test_a_short_history_does_not_cut_the_delay_short() -> None:
    world = running_world()
    world.set_history(0)
    fail_all(world)
    created_at = world.now
    world.reconcile()
    world.reap()
    assert world.reconcile() == created_at + 5


def test_a_changed_delay_applies_to_what_runs_under_it() -> None:
    def slower(spec: TaskSpec) -> TaskSpec:
        return replace(spec, restart=RestartPolicy(delay_s=30))

    world = running_world()
    world.set_service(change=slower)
    world.settle()
    fail_all(world)
    assert world.reconcile() == world.now + 30
