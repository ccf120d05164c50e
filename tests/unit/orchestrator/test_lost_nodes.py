"""Tasks on nodes that stay DOWN (reference orchestration 6.2)."""

from __future__ import annotations

from swarmd.model import NodeState, TaskState
from swarmd.orchestrator.lost_nodes import ORPHANED_AFTER_S, ORPHANED_MESSAGE, give_up_tasks
from tests.unit.orchestrator.world import World

S = TaskState


def lost_world() -> World:
    world = World()
    world.add_node("n1")
    world.add_service(replicas=3)
    world.settle()
    world.move(world.tasks()[0], S.COMPLETE)
    world.now += 5
    world.set_node("n1", state=NodeState.DOWN)
    return world


def test_a_day_after_it_went_down_its_unfinished_tasks_are_given_up() -> None:
    world = lost_world()
    due = world.now + ORPHANED_AFTER_S
    world.now += 3600
    assert world.update(lambda tx: give_up_tasks(tx, "n1")) == due
    world.now = due
    assert world.update(lambda tx: give_up_tasks(tx, "n1")) is None
    states = [(task.status.state, task.status.message == ORPHANED_MESSAGE) for task in world.tasks()]
    assert sorted(states) == [(S.COMPLETE, False), (S.ORPHANED, True), (S.ORPHANED, True)]
    before = world.state.index
    assert world.update(lambda tx: give_up_tasks(tx, "n1")) is None
    assert world.state.index == before


def test_a_node_that_came_back_or_was_removed_has_no_alarm() -> None:
    world = lost_world()
    world.now += ORPHANED_AFTER_S
    world.set_node("n1", state=NodeState.READY)
    before = world.state.index
    assert world.update(lambda tx: give_up_tasks(tx, "n1")) is None
    assert world.update(lambda tx: give_up_tasks(tx, "gone")) is None
    assert world.state.index == before
