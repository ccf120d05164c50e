"""Global jobs (reference orchestration 3.3 and 10, scenario 67)."""

from __future__ import annotations

import pytest

from swarmd.model import Availability, GlobalJob, NodeState, RestartCondition, RestartPolicy, TaskState
from swarmd.orchestrator.jobs import JobProgress, job_progress
from tests.unit.orchestrator.modes_world import ModesWorld

S = TaskState
AT_ONCE = RestartPolicy(condition=RestartCondition.ON_FAILURE, delay_s=0)


def job_world(*, follow_nodes: bool = False, restart: RestartPolicy = AT_ONCE, nodes: int = 3) -> ModesWorld:
    world = ModesWorld()
    for number in range(1, nodes + 1):
        world.add_node(f"n{number}")
    world.now += 1
    world.run(GlobalJob(follow_nodes=follow_nodes), restart=restart)
    return world


def progress_of(world: ModesWorld) -> JobProgress:
    return job_progress(world.service_of(), world.state.tasks_of_service("web"))


def nodes_of(world: ModesWorld) -> list[str]:
    return sorted(t.node_id for t in world.live())


def test_each_node_that_the_constraints_admit_runs_it_once() -> None:
    world = job_world()
    world.label("n1", disk="ssd")
    world.label("n2", disk="ssd")
    world.change(constraints=("node.labels.disk==ssd",))
    world.reconcile()
    assert [(t.node_id, t.desired_state, t.job_iteration) for t in world.tasks()] == [
        ("n1", S.COMPLETE, 1),
        ("n2", S.COMPLETE, 1),
    ]
    world.work()
    assert progress_of(world) == JobProgress(iteration=1, total=2, completed=2)
    assert world.is_at_rest()


@pytest.mark.parametrize(
    ("state", "availability"),
    [
        (NodeState.READY, Availability.DRAIN),
        (NodeState.READY, Availability.PAUSE),
        (NodeState.DOWN, Availability.ACTIVE),
        (NodeState.UNKNOWN, Availability.ACTIVE),
        (NodeState.DISCONNECTED, Availability.ACTIVE),
    ],
)
def test_a_node_that_cannot_run_it_now_gets_it_once_it_can(state: NodeState, availability: Availability) -> None:
    world = job_world()
    world.set_node("n2", state=state, availability=availability)
    world.reconcile()
    assert nodes_of(world) == ["n1", "n3"]
    world.set_node("n2", state=NodeState.READY, availability=Availability.ACTIVE)
    world.look_at_node("n2")
    assert nodes_of(world) == ["n1", "n2", "n3"]


@pytest.mark.parametrize("change", ["drain", "down"])
def test_a_node_that_is_drained_or_down_is_asked_to_stop_at_once(change: str) -> None:
    world = job_world()
    world.reconcile()
    world.place()
    world.agents()
    done = world.live_on("n1")
    world.move(done, S.COMPLETE)
    for id in ("n1", "n2"):
        if change == "drain":
            world.set_node(id, availability=Availability.DRAIN)
        else:
            world.set_node(id, state=NodeState.DOWN)
        world.look_at_node(id)
    assert [t.desired_state for t in world.on("n1")] == [S.COMPLETE], "what has completed has"
    assert [t.desired_state for t in world.on("n2")] == [S.SHUTDOWN]
    world.set_node("n2", state=NodeState.READY, availability=Availability.ACTIVE)
    world.look_at_node("n2")
    world.work()
    assert progress_of(world).completed == 3


def test_nodes_that_come_later_are_left_out_unless_it_follows_them() -> None:
    for follow_nodes, expected in ((False, ["n1", "n2", "n3"]), (True, ["n1", "n2", "n3", "n4"])):
        world = job_world(follow_nodes=follow_nodes)
        world.reconcile()
        world.now += 1
        world.add_node("n4")
        world.look_at_node("n4")
        world.reconcile()
        assert nodes_of(world) == expected


def test_a_new_iteration_runs_on_the_nodes_that_are_there_by_then_and_the_old_one_goes() -> None:
    world = job_world(nodes=1)
    world.work()
    world.now += 1
    world.add_node("n2")
    world.now += 1
    world.change(image="b")
    world.work()
    assert progress_of(world) == JobProgress(iteration=1, total=2, completed=2)
    assert {t.job_iteration for t in world.tasks()} == {1}


def test_attempts_are_counted_for_each_node() -> None:
    restart = RestartPolicy(condition=RestartCondition.ON_FAILURE, max_attempts=2, delay_s=0)
    world = job_world(restart=restart)
    world.work(outcome=lambda task: S.FAILED if task.node_id == "n1" else S.COMPLETE)
    assert [len(world.on(id)) for id in ("n1", "n2", "n3")] == [3, 1, 1]
    assert progress_of(world) == JobProgress(total=3, completed=2, failed=1)
    world.look_at_node("n1")
    assert len(world.on("n1")) == 3, "a look at the node does not try again"


def test_condition_none_is_tried_once() -> None:
    world = job_world(restart=RestartPolicy(condition=RestartCondition.NONE))
    world.work(outcome=lambda _: S.FAILED)
    world.look_at_node("n1")
    assert progress_of(world) == JobProgress(total=3, failed=3)
    assert len(world.tasks()) == 3


def test_a_node_that_is_removed_leaves_no_record() -> None:
    world = job_world()
    world.reconcile()
    world.remove_node("n1")
    world.look_at_node("n1")
    world.reap()
    assert world.on("n1") == []
    world.work()
    assert progress_of(world) == JobProgress(total=2, completed=2)
