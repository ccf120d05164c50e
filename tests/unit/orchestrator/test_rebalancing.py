"""Tasks of a rebalance move by turns, and an update or a failure ends it."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from swarmd.model import ContainerSpec, Rebalancing, TaskState, UpdateConfig, UpdateOrder, UpdateState, UpdateStatus
from tests.unit.orchestrator.world import World

S = TaskState


def swarm(**config: Any) -> World:
    world = World()
    world.track()
    world.add_node("n1")
    world.add_service(replicas=4)
    world.edit(lambda spec: replace(spec, update=UpdateConfig(**config)))
    world.settle()
    world.add_node("n2")
    ids = tuple(task.id for task in world.running()[:2])
    world.update(lambda tx: tx.update(replace(world.service(), rebalancing=Rebalancing(started_at=1.0, task_ids=ids))))
    return world


def test_the_listed_tasks_move_one_at_a_time_without_a_delay_and_no_other_does() -> None:
    world = swarm()
    before = {task.id for task in world.running()}
    world.reconcile()
    assert len([task for task in world.wanted() if task.id not in before]) == 1
    stopping = world.only(desired_state=S.SHUTDOWN)
    world.move(stopping, S.SHUTDOWN)
    world.reconcile()
    assert not [task for task in world.wanted() if task.desired_state is S.READY], "its successor starts at once"
    world.settle()
    assert sorted(task.node_id for task in world.running()) == ["n1", "n1", "n2", "n2"]
    assert len(before & {task.id for task in world.running()}) == 2
    assert world.service().rebalancing is None
    assert world.service().update_status is None


def test_start_first_leaves_no_gap() -> None:
    world = swarm(order=UpdateOrder.START_FIRST, parallelism=0)
    for _ in range(10):
        world.turn()
        up = [task for task in world.running() if task.status.state is S.RUNNING]
        assert len(up) >= 4
    world.settle()
    assert len(world.wanted()) == 4
    assert world.service().rebalancing is None


def test_after_a_rollback_that_is_over_the_update_settings_hold_again() -> None:
    world = swarm(parallelism=1)
    spec = replace(world.service().spec, rollback=UpdateConfig(parallelism=0))
    done = UpdateStatus(state=UpdateState.ROLLBACK_COMPLETED, started_at=1.0, completed_at=2.0)
    world.update(lambda tx: tx.update(replace(world.service(), spec=spec, update_status=done)))
    before = {task.id for task in world.running()}
    world.reconcile()
    assert len([task for task in world.wanted() if task.id not in before]) == 1


def test_an_update_has_the_right_of_way() -> None:
    world = swarm()
    service = world.service()
    spec = replace(service.spec, task=replace(service.spec.task, container=ContainerSpec(image="b")))
    world.update(lambda tx: tx.update(replace(service, spec=spec, spec_version=9)))
    world.reconcile()
    assert world.service().rebalancing is None
    world.settle()
    assert {task.spec.container.image for task in world.running()} == {"b"}


def test_a_moved_task_that_fails_ends_it() -> None:
    world = swarm()
    for _ in range(3):
        world.turn()
    new = next(task for task in world.running() if task.node_id == "n2")
    world.move(new, S.FAILED)
    world.reconcile()
    assert world.service().rebalancing is None
    world.settle()
    assert len(world.running()) == 4
