"""Rolling updates, first form (reference orchestration 10, scenarios 39, 48-51)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from swarmd.model import Placement, RestartCondition, RestartPolicy, Task, TaskSpec, TaskState
from swarmd.orchestrator import update_progress
from swarmd.orchestrator.update import UpdateProgress
from tests.unit.orchestrator.world import World

S = TaskState


@pytest.fixture
def world() -> World:
    world = World()
    for id in ("n1", "n2", "n3"):
        world.add_node(id)
    world.add_service(replicas=3)
    world.settle()
    return world


def images(world: World) -> list[str]:
    return [t.spec.container.image for t in world.wanted()]


def progress(world: World) -> UpdateProgress:
    service = world.state.service("web")
    assert service is not None
    return update_progress(service, world.state.tasks_of_service("web"))


def of_image(image: str, outcome: TaskState) -> Callable[[Task], TaskState]:
    return lambda task: outcome if task.spec.container.image == image else S.RUNNING


def test_an_update_replaces_one_slot_at_a_time_stopping_the_old_task_first(world: World) -> None:
    world.set_service(image="b")
    lowest = 3
    for _ in range(40):
        world.reconcile()
        up = [t for t in world.running() if t.status.state == S.RUNNING]
        lowest = min(lowest, len(up))
        for slot in (1, 2, 3):
            in_slot = [t for t in world.tasks(slot=slot) if t.desired_state == S.RUNNING]
            stopping = [
                t for t in world.tasks(slot=slot) if t.desired_state > S.RUNNING and t.status.state <= S.RUNNING
            ]
            assert len(in_slot) + len(stopping) <= 1, "old and new of a slot are never up together"
        world.place()
        world.agents()
    assert lowest == 2
    assert images(world) == ["b", "b", "b"]
    assert len(world.running()) == 3
    assert progress(world) == UpdateProgress(slots=3, outdated=0)


def test_the_old_task_is_wanted_down_and_its_successor_waits_for_it(world: World) -> None:
    world.set_service(image="b")
    assert world.reconcile() == world.now + 60
    old = world.only(desired_state=S.SHUTDOWN)
    (new,) = [t for t in world.tasks(desired_state=S.READY) if t.slot == old.slot]
    world.move(old, S.SHUTDOWN)
    world.reconcile()
    assert world.only(id=new.id).desired_state == S.RUNNING  # no restart delay in an update
    assert images(world) == ["b", "a", "a"]


def test_an_old_task_that_never_stops_holds_up_the_update_for_a_minute(world: World) -> None:
    world.set_service(image="b")
    world.reconcile()
    world.now += 60
    world.reconcile()
    assert [t.desired_state for t in world.wanted() if t.spec.container.image == "b"] == [S.RUNNING]


def test_the_update_waits_for_the_new_task_without_limit(world: World) -> None:
    world.set_service(image="b")
    for _ in range(20):
        world.turn(outcome=of_image("b", S.STARTING))
        world.now += 100
    assert sorted(images(world)) == ["a", "a", "b"]
    assert progress(world) == UpdateProgress(slots=3, outdated=2)


def test_a_new_task_that_fails_pauses_the_update(world: World) -> None:
    world.set_service(image="b")
    for _ in range(30):
        world.turn(outcome=of_image("b", S.FAILED))
        world.reap()
        world.now += 6
    assert [t.spec.container.image for t in world.running()] == ["a", "a"]
    paused = progress(world)
    assert (paused.slots, paused.outdated) == (3, 2)
    assert world.only(id=paused.paused_by).spec.container.image == "b"


def test_a_paused_update_does_not_spread_through_restarts(world: World) -> None:
    world.set_service(image="b")
    for _ in range(6):
        world.turn(outcome=of_image("b", S.FAILED))
    old = [t for t in world.running() if t.spec.container.image == "a"]
    world.move(old[0], S.FAILED)
    for _ in range(6):
        world.turn(outcome=of_image("b", S.FAILED))
        world.now += 6
    assert sorted(images(world)) == ["a", "a", "b"]


def test_the_next_spec_ends_the_pause(world: World) -> None:
    world.set_service(image="b")
    for _ in range(6):
        world.turn(outcome=of_image("b", S.FAILED))
    world.set_service(image="c")
    world.settle()
    assert [t.spec.container.image for t in world.running()] == ["c", "c", "c"]


def test_a_new_task_that_ran_well_and_ends_later_does_not_pause(world: World) -> None:
    world.set_service(image="b")
    while images(world).count("b") < 2:  # the second slot is being moved: the first one ran
        world.turn()
        world.now += 1
    first = next(t for t in world.running() if t.spec.container.image == "b")
    world.now += 30
    world.move(first, S.FAILED)
    assert progress(world).paused_by == ""
    world.settle()
    assert [t.spec.container.image for t in world.running()] == ["b", "b", "b"]


def test_broken_slots_are_moved_first(world: World) -> None:
    world.move(world.wanted()[2], S.FAILED)
    world.set_service(image="b")
    world.reconcile()
    assert images(world) == ["a", "a", "b"]
    assert world.wanted()[2].desired_state == S.RUNNING


def test_a_new_slot_that_finds_no_room_does_not_hold_up_the_update(world: World) -> None:
    world.set_service(image="b", replicas=4)
    world.reconcile()
    assert sorted(images(world)) == ["a", "a", "b", "b"]


def test_changing_only_the_replicas_restarts_nothing(world: World) -> None:
    before = {t.id for t in world.running()}
    world.set_service(replicas=5)
    world.settle()
    assert before <= {t.id for t in world.running()}
    assert len(world.running()) == 5


def test_force_update_restarts_everything(world: World) -> None:
    before = {t.id for t in world.running()}
    world.set_service(change=lambda spec: replace(spec, force_update=1))
    world.settle()
    assert not before & {t.id for t in world.running()}
    assert len(world.running()) == 3


def with_limit(limit: int) -> Callable[[TaskSpec], TaskSpec]:
    return lambda spec: replace(spec, placement=Placement(max_replicas=limit))


def test_a_limit_per_node_that_holds_already_restarts_nothing(world: World) -> None:
    before = {t.id for t in world.running()}
    world.set_service(change=with_limit(1))
    world.settle()
    assert {t.id for t in world.running()} == before


def test_a_limit_per_node_that_is_violated_moves_the_surplus() -> None:
    world = World()
    world.add_node("n1")
    world.add_service(replicas=3)
    world.settle()
    world.add_node("n2")
    world.add_node("n3")
    kept = world.running()[0]
    world.set_service(change=with_limit(1))
    world.settle()
    assert sorted(t.node_id for t in world.running()) == ["n1", "n2", "n3"]
    assert kept.id in {t.id for t in world.running()}


def test_a_finished_slot_that_is_not_restarted_is_still_updated() -> None:
    world = World()
    world.add_node("n1")
    world.add_service(restart=RestartPolicy(max_attempts=1))
    world.settle()
    for _ in range(2):
        world.move(world.wanted()[0], S.FAILED)
        world.settle()
    assert world.wanted() == []
    world.set_service(image="b")
    world.settle()
    assert [t.spec.container.image for t in world.running()] == ["b"]


@pytest.mark.parametrize(
    ("condition", "updated"),
    [(RestartCondition.ANY, 1), (RestartCondition.ON_FAILURE, 3), (RestartCondition.NONE, 3)],
)
def test_to_complete_is_a_failure_only_where_tasks_should_keep_running(
    condition: RestartCondition, updated: int
) -> None:
    world = World()
    world.add_node("n1")
    world.add_service(replicas=3, restart=RestartPolicy(condition=condition))
    world.settle()
    world.set_service(image="b")
    for _ in range(20):
        world.turn(outcome=of_image("b", S.COMPLETE))
        world.now += 0.1
    assert len({t.slot for t in world.tasks() if t.spec.container.image == "b"}) == updated
