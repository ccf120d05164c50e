"""How many slots an update moves at a time, and how long each new task runs before the next turn."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarmd.model import Task, TaskState, UpdateConfig
from swarmd.orchestrator import update_progress
from tests.unit.orchestrator.world import World

S = TaskState


def swarm(replicas: int) -> World:
    world = World()
    world.add_node("n1")
    world.add_service(replicas=replicas)
    world.settle()
    return world


def moved(world: World, image: str = "b") -> set[int]:
    return {task.slot for task in world.tasks() if task.spec.container.image == image}


def starting(task: Task) -> TaskState:
    return S.STARTING if task.spec.container.image == "b" else S.RUNNING


def test_so_many_slots_move_at_a_time() -> None:
    world = swarm(5)
    world.set_service(image="b", update=UpdateConfig(parallelism=2))
    for _ in range(10):
        world.turn(outcome=starting)
    assert len(moved(world)) == 2, "two, and no third before one of them runs"
    world.move(next(t for t in world.wanted() if t.status.state is S.STARTING), S.RUNNING)
    world.reconcile()
    assert len(moved(world)) == 3, "each that runs makes room for one"
    world.settle()
    assert len(moved(world)) == len(world.running()) == 5


def test_none_is_all_at_once() -> None:
    world = swarm(5)
    world.set_service(image="b", update=UpdateConfig(parallelism=0, delay_s=60))
    world.reconcile()
    assert len(moved(world)) == 5


def test_a_new_task_runs_for_the_delay_before_the_next_turn() -> None:
    world = swarm(3)
    world.set_service(image="b", update=UpdateConfig(delay_s=10))
    for _ in range(5):
        wake_at = world.turn()
    ran_since = world.now
    assert (len(moved(world)), wake_at) == (1, ran_since + 10)
    world.now = ran_since + 9.9
    assert world.reconcile() == ran_since + 10
    assert len(moved(world)) == 1
    world.now = ran_since + 10
    world.reconcile()
    assert len(moved(world)) == 2


def test_a_task_that_ends_within_the_delay_is_waited_for_again() -> None:
    world = swarm(2)
    world.set_service(image="b", update=UpdateConfig(delay_s=60))
    for _ in range(5):
        world.turn()
    world.now += 30  # long enough to be no failure of the update
    world.move(next(t for t in world.running() if t.spec.container.image == "b"), S.FAILED)
    for _ in range(5):
        world.turn()
        world.now += 6
    world.now += 35
    world.reconcile()
    assert len(moved(world)) == 1
    world.settle()
    assert len(moved(world)) == 2


def test_options_alone_replace_no_task() -> None:
    world = swarm(3)
    before = {task.id for task in world.running()}
    world.set_service(update=UpdateConfig(parallelism=2, delay_s=5))
    world.settle()
    assert {task.id for task in world.tasks()} == before


def test_options_changed_in_between_hold_from_then_on() -> None:
    world = swarm(4)
    world.set_service(image="b", update=UpdateConfig(delay_s=3600))
    for _ in range(5):
        world.turn()
    assert len(moved(world)) == 1
    world.set_service(update=UpdateConfig(parallelism=0))
    world.reconcile()
    assert len(moved(world)) == 4


def test_side_by_side_one_that_ran_long_and_ends_is_no_failure_and_one_that_did_not_is() -> None:
    world = swarm(6)
    world.set_service(image="b", update=UpdateConfig(parallelism=2, delay_s=100))
    for _ in range(5):
        world.turn()
    first, second = (task for task in world.running() if task.spec.container.image == "b")
    service = world.state.service("web")
    assert service is not None
    world.now += 30
    world.move(first, S.FAILED)
    assert update_progress(service, world.tasks()).paused_by == ""
    for _ in range(5):
        world.turn()
        world.now += 6
    successor = next(t for t in world.running() if t.slot == first.slot)
    world.now = successor.status.running_at + 4.9
    world.move(successor, S.FAILED)
    assert update_progress(service, world.tasks()).paused_by == successor.id
    world.now += 200
    world.move(second, S.FAILED)
    for _ in range(5):
        world.turn()
        world.now += 200
    assert len(moved(world)) == 2


@given(
    replicas=st.integers(1, 7),
    parallelism=st.integers(0, 4),
    delay_s=st.sampled_from((0.0, 1.0, 7.5)),
    steps=st.lists(st.tuples(st.sampled_from((0.0, 0.4, 2.0)), st.booleans()), max_size=40),
)
def test_never_more_slots_are_on_their_way_than_allowed_and_the_update_ends(
    replicas: int, parallelism: int, delay_s: float, steps: list[tuple[float, bool]]
) -> None:
    world = swarm(replicas)
    world.set_service(image="b", update=UpdateConfig(parallelism=parallelism, delay_s=delay_s))
    allowed = parallelism or replicas
    for seconds, is_quick in steps:
        world.reconcile()
        new = [task for task in world.wanted() if task.spec.container.image == "b"]
        settled = [t for t in new if t.status.state is S.RUNNING and t.status.applied_at + delay_s <= world.now]
        assert len(new) - len(settled) <= allowed
        assert len(world.wanted()) == replicas
        world.place()
        if is_quick:
            world.agents()
        world.now += seconds
    world.settle()
    assert {task.spec.container.image for task in world.running()} == {"b"}
    assert len(world.running()) == replicas
