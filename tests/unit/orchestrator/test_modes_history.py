"""What the reaper may delete of jobs and global services (reference orchestration 10, scenarios 70, 71, 73)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from swarmd.model import Global, GlobalJob, ReplicatedJob, Task, TaskState, TaskStatus
from swarmd.state.command import Table
from tests.unit.orchestrator.modes_world import ModesWorld

S = TaskState
OBSERVED = [state for state in TaskState if state is not S.REMOVE]


def older(world: ModesWorld, observed: TaskState, desired: TaskState) -> Task:
    """A record beside the live one of its slot, and older."""
    (live,) = world.tasks()
    id = world.update(lambda tx: tx.new_id())
    task = replace(live, id=id, status=TaskStatus(state=observed, at=1.0), desired_state=desired)
    world.update(lambda tx: tx.remove(Table.TASK, live.id))
    world.add_task(task)
    world.add_task(live)
    return task


@pytest.mark.parametrize("desired", [S.RUNNING, S.SHUTDOWN])
@pytest.mark.parametrize("observed", OBSERVED)
def test_of_a_node_that_is_over_the_limit_what_ended_or_never_ran_goes(observed: TaskState, desired: TaskState) -> None:
    world = ModesWorld(history=1)
    world.add_node("n1")
    world.run(Global())
    world.settle()
    task = older(world, observed, desired)
    world.reap()
    is_gone = world.state.task(task.id) is None
    assert is_gone is (desired is S.SHUTDOWN and (observed > S.RUNNING or observed < S.ASSIGNED))


@pytest.mark.parametrize("desired", [S.COMPLETE, S.SHUTDOWN])
@pytest.mark.parametrize("observed", OBSERVED)
def test_of_a_jobs_slot_what_completed_stays(observed: TaskState, desired: TaskState) -> None:
    world = ModesWorld(history=1)
    world.add_node("n1")
    world.run(ReplicatedJob())
    world.reconcile()
    world.place()
    world.agents()
    task = older(world, observed, desired)
    world.reap()
    is_gone = world.state.task(task.id) is None
    may_go = (observed > S.RUNNING or observed < S.ASSIGNED) and observed is not S.COMPLETE
    assert is_gone is (desired is S.SHUTDOWN and may_go)


def test_one_nodes_history_does_not_push_out_anothers() -> None:
    world = ModesWorld(history=2)
    for id in ("n1", "n2"):
        world.add_node(id)
    world.run(Global())
    world.settle()
    for _ in range(4):
        world.move(world.live_on("n1"), S.FAILED)
        world.settle()
    world.move(world.live_on("n2"), S.FAILED)
    world.settle()
    assert [len(world.on(id)) for id in ("n1", "n2")] == [2, 2]


def test_a_global_jobs_old_iterations_go_once_they_have_stopped() -> None:
    world = ModesWorld()
    world.add_node("n1")
    world.run(GlobalJob())
    world.reconcile()
    world.place()
    world.agents()
    world.change(image="b")
    world.reconcile()
    world.reap()
    assert [t.job_iteration for t in world.tasks()] == [0, 1]
    world.agents()
    world.reap()
    assert [t.job_iteration for t in world.tasks()] == [1]
