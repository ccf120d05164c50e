"""Updates that say how they stand: running, paused, completed, rolled back (reference orchestration 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from swarmd.errors import FailedPrecondition
from swarmd.model import (
    ContainerSpec,
    FailureAction,
    FilterVerdict,
    PlacementFailure,
    RestartPolicy,
    ServiceSpec,
    Task,
    TaskState,
    TaskStatus,
    UpdateConfig,
    UpdateOrder,
    UpdateState,
    UpdateStatus,
)
from swarmd.orchestrator import reconcile_service
from swarmd.orchestrator.revision import manual_rollback
from tests.unit.orchestrator.world import World

S = TaskState
U = UpdateState


def swarm(replicas: int = 3, *, history: int = 5, restart: RestartPolicy | None = None) -> World:
    world = World()
    world.track(history=history)
    world.add_node("n1")
    world.add_service(replicas=replicas, restart=restart or RestartPolicy())
    world.settle()
    assert world.service().update_status is None, "the first tasks are no update"
    return world


def to_image(image: str, **config: Any) -> Callable[[ServiceSpec], ServiceSpec]:
    def change(spec: ServiceSpec) -> ServiceSpec:
        task = replace(spec.task, container=ContainerSpec(image=image))
        return replace(spec, task=task, update=UpdateConfig(**config), rollback=UpdateConfig(**config))

    return change


def status(world: World) -> UpdateStatus:
    found = world.service().update_status
    assert found is not None
    return found


def images(world: World) -> list[str]:
    return sorted(task.spec.container.image for task in world.running())


def failing(*bad: str) -> Callable[[Task], TaskState]:
    return lambda task: S.FAILED if task.spec.container.image in bad else S.RUNNING


def live(
    world: World, turns: int, outcome: Callable[[Task], TaskState] = lambda _: S.RUNNING, step_s: float = 1.0
) -> None:
    for _ in range(turns):
        world.turn(outcome=outcome)
        world.reap()
        world.now += step_s


def test_an_update_runs_and_completes_once_its_last_task_ran_for_the_monitor_time() -> None:
    world = swarm()
    began = world.now
    world.edit(to_image("b", monitor_s=30.0))
    world.reconcile()
    assert status(world) == UpdateStatus(state=U.UPDATING, started_at=began, message="update in progress", total=3)
    live(world, 20)
    assert images(world) == ["b", "b", "b"]
    assert status(world).state is U.UPDATING, "watched still"
    world.settle()
    assert (status(world).state, status(world).message) == (U.COMPLETED, "update completed")
    last = max(task.status.running_at for task in world.running())
    assert status(world).completed_at == last + 30.0


def test_a_failure_pauses_and_names_the_task() -> None:
    world = swarm()
    world.edit(to_image("b"))
    live(world, 20, failing("b"))
    assert images(world) == ["a", "a"]
    (failed,) = {
        task.id for task in world.tasks() if task.slot == int(status(world).failed[0]) and task.spec_version == 2
    } & {status(world).message.rpartition(" ")[2]}
    assert status(world).message == f"update paused due to failure or early termination of task {failed}"
    assert (status(world).state, status(world).total) == (U.PAUSED, 3)
    before = status(world)
    live(world, 20, failing("b"), step_s=30.0)
    assert status(world) == before
    assert images(world) == ["a", "a"]


@pytest.mark.parametrize("history", [0, 1, 5])
def test_a_pause_outlives_the_records_that_caused_it_and_the_leader(history: int) -> None:
    world = swarm(history=history)
    world.edit(to_image("b"))
    live(world, 20, failing("b"))
    live(world, 30, step_s=100.0)  # the bad slot comes up after all
    assert images(world) == ["a", "a", "b"]
    assert status(world).state is U.PAUSED


def test_a_tolerated_failure_is_told_at_the_end() -> None:
    world = swarm(4)
    unlucky: set[str] = set()

    def once(task: Task) -> TaskState:
        if task.spec.container.image == "b" and task.slot == 2 and not unlucky - {task.id}:
            unlucky.add(task.id)
            return S.FAILED
        return S.RUNNING

    world.edit(to_image("b", max_failure_ratio=0.25))
    live(world, 60, once)
    world.settle()
    assert images(world) == ["b"] * 4
    assert status(world).message == "update completed; 1 of 4 slots failed"
    assert status(world).failed == ("2",)


def test_more_failures_than_tolerated_pause() -> None:
    world = swarm(4)
    world.edit(to_image("b", max_failure_ratio=0.25))
    live(world, 60, failing("b"))
    assert status(world).state is U.PAUSED
    assert len(status(world).failed) == 2


def test_continue_goes_on_whatever_fails() -> None:
    world = swarm()
    world.edit(to_image("b", failure_action=FailureAction.CONTINUE))
    live(world, 60, failing("b"))
    assert not {task.spec.container.image for task in world.wanted()} - {"b"}
    assert (status(world).state, status(world).message) == (U.COMPLETED, "update completed; 3 of 3 slots failed")


def test_a_late_failure_within_the_monitor_time_counts_also_when_the_delay_is_longer() -> None:
    world = swarm()
    world.edit(to_image("b", monitor_s=20.0, delay_s=60.0))
    live(world, 4)
    first = next(task for task in world.running() if task.spec.container.image == "b")
    world.now = first.status.running_at + 19.0
    world.move(first, S.FAILED)
    world.reconcile()
    assert status(world).state is U.PAUSED


def test_a_rollback_brings_the_previous_template_back_and_says_why() -> None:
    world = swarm(4)
    kept = {task.id for task in world.running()}
    world.edit(to_image("b", failure_action=FailureAction.ROLLBACK))
    live(world, 3, failing("b"))
    for _ in range(20):
        live(world, 1, failing("b"))
        if status(world).state is U.ROLLBACK_STARTED:
            break
    assert status(world).message.startswith("update rolled back due to failure or early termination of task ")
    assert world.service().spec.task.container.image == "a"
    assert world.service().previous_spec is None
    live(world, 40, failing("b"))
    assert images(world) == ["a"] * 4
    assert (status(world).state, status(world).message) == (U.ROLLBACK_COMPLETED, "rollback completed")
    assert len(kept & {task.id for task in world.running()}) == 3, "what was not touched was not replaced"


def test_a_failing_rollback_pauses_and_is_not_rolled_back() -> None:
    world = swarm()
    world.edit(to_image("b", failure_action=FailureAction.ROLLBACK, max_failure_ratio=0.5, parallelism=0))
    live(world, 60, failing("a", "b"))
    assert status(world).state is U.ROLLBACK_PAUSED
    assert status(world).message.startswith("rollback paused due to failure or early termination of task ")


def test_without_a_previous_spec_a_rollback_pauses_and_says_so() -> None:
    world = swarm()
    world.edit(to_image("b", failure_action=FailureAction.ROLLBACK))
    world.update(lambda tx: tx.update(replace(world.service(), previous_spec=None)))
    live(world, 20, failing("b"))
    assert status(world).state is U.PAUSED
    assert status(world).message.endswith("; there is no previous spec to roll back to")


def test_a_manual_rollback_exchanges_the_specs_and_two_lead_back() -> None:
    world = swarm()
    world.edit(to_image("b"))
    world.settle()
    world.update(lambda tx: tx.update(manual_rollback(world.service(), world.now)))
    assert status(world).message == "manually requested rollback"
    world.settle()
    assert images(world) == ["a"] * 3
    assert status(world).state is U.ROLLBACK_COMPLETED
    world.update(lambda tx: tx.update(manual_rollback(world.service(), world.now)))
    world.settle()
    assert images(world) == ["b"] * 3


def test_there_is_nothing_to_roll_back_to_before_the_first_update() -> None:
    world = swarm()
    with pytest.raises(FailedPrecondition, match="service web does not have a previous spec"):
        manual_rollback(world.service(), world.now)


def test_a_task_that_never_starts_fails_the_update_after_the_timeout() -> None:
    world = swarm()
    world.edit(to_image("b", progress_timeout_s=100.0))
    world.turn(outcome=lambda task: S.STARTING if task.spec.container.image == "b" else S.RUNNING)
    live(world, 98, lambda task: S.STARTING if task.spec.container.image == "b" else S.RUNNING)
    assert status(world).state is U.UPDATING
    live(world, 3, lambda task: S.STARTING if task.spec.container.image == "b" else S.RUNNING)
    assert status(world).state is U.PAUSED


def test_a_new_spec_supersedes_and_untouched_slots_go_straight_to_it() -> None:
    world = swarm(3)
    world.edit(to_image("b"))
    live(world, 3)
    world.edit(to_image("c"))
    live(world, 60)
    assert images(world) == ["c"] * 3
    assert len([task for task in world.tasks() if task.spec.container.image == "b"]) < 3
    assert status(world).state is U.COMPLETED


def test_scaling_a_paused_service_does_not_go_on_with_its_update() -> None:
    world = swarm()
    world.edit(to_image("b"))
    live(world, 20, failing("b"))
    world.edit(lambda spec: replace(spec, mode=replace(spec.mode, replicas=2)))
    live(world, 20, failing("b"))
    assert status(world).state is U.PAUSED
    assert "a" in images(world)


def test_other_settings_go_on_with_a_paused_update() -> None:
    world = swarm()
    world.edit(to_image("b"))
    live(world, 20, failing("b"))
    world.edit(lambda spec: replace(spec, update=UpdateConfig(failure_action=FailureAction.CONTINUE)))
    live(world, 60)
    assert images(world) == ["b"] * 3


def test_start_first_leaves_no_gap() -> None:
    world = swarm(3)
    world.edit(to_image("b", order=UpdateOrder.START_FIRST))
    for _ in range(30):
        world.reconcile()
        up = [task for task in world.tasks() if task.status.state is S.RUNNING and task.desired_state <= S.RUNNING]
        assert len(up) >= 3
        assert len(world.wanted()) <= 4
        world.place()
        world.agents()
        world.now += 1
    world.settle()
    assert images(world) == ["b"] * 3
    assert len(world.wanted()) == 3


def test_start_first_keeps_the_old_task_if_the_new_one_fails() -> None:
    world = swarm(3)
    before = {task.id for task in world.running()}
    world.edit(to_image("b", order=UpdateOrder.START_FIRST))
    live(world, 20, failing("b"))
    assert {task.id for task in world.wanted()} == before
    assert status(world).state is U.PAUSED


def test_start_first_gives_a_new_task_up_that_never_starts() -> None:
    world = swarm(2)
    before = {task.id for task in world.running()}
    world.edit(to_image("b", order=UpdateOrder.START_FIRST, progress_timeout_s=50.0))
    live(world, 60, lambda task: S.STARTING if task.spec.container.image == "b" else S.RUNNING)
    assert status(world).state is U.PAUSED
    assert {task.id for task in world.wanted()} == before


@pytest.mark.parametrize(
    ("blocked_by", "stops_old"), [("host_port", True), ("max_replicas", True), ("resources", False)]
)
def test_start_first_falls_back_to_stop_first_where_the_old_task_is_in_the_way(
    blocked_by: str, stops_old: bool
) -> None:
    world = swarm(1)
    world.edit(to_image("b", order=UpdateOrder.START_FIRST))
    world.reconcile()
    old, new = sorted(world.wanted(), key=lambda task: task.meta.created_at)
    why = PlacementFailure(nodes=1, verdicts=(FilterVerdict(filter=blocked_by, nodes=1),))
    pending = TaskStatus(state=S.PENDING, at=world.now, err="no suitable node", unplaced=why)
    world.update(lambda tx: tx.advance(new.id, pending))
    world.reconcile()
    assert (world.only(id=old.id).desired_state > S.RUNNING) is stops_old
    if stops_old:
        world.settle()
        assert images(world) == ["b"]


def test_an_old_task_that_ends_while_its_successor_starts_is_not_restarted() -> None:
    world = swarm(1)
    world.edit(to_image("b", order=UpdateOrder.START_FIRST))
    world.reconcile()
    old = min(world.wanted(), key=lambda task: task.meta.created_at)
    world.move(old, S.FAILED)
    world.settle()
    assert images(world) == ["b"]
    assert len(world.tasks()) == 2


def test_rolled_back_in_the_middle_of_a_start_first_move_the_old_task_stays() -> None:
    world = swarm(1)
    before = world.running()[0].id
    world.edit(to_image("b", order=UpdateOrder.START_FIRST))
    world.reconcile()
    world.update(lambda tx: tx.update(manual_rollback(world.service(), world.now)))
    world.settle()
    assert [task.id for task in world.running()] == [before]


LEGAL = {
    None: {U.UPDATING, U.ROLLBACK_STARTED},
    U.UPDATING: {U.PAUSED, U.COMPLETED, U.ROLLBACK_STARTED, None},
    U.PAUSED: {None, U.ROLLBACK_STARTED},
    U.COMPLETED: {None, U.UPDATING, U.ROLLBACK_STARTED},
    U.ROLLBACK_STARTED: {U.ROLLBACK_PAUSED, U.ROLLBACK_COMPLETED, None},
    U.ROLLBACK_PAUSED: {None, U.ROLLBACK_STARTED},
    U.ROLLBACK_COMPLETED: {None, U.UPDATING, U.ROLLBACK_STARTED},
}
CONFIGS = st.builds(
    UpdateConfig,
    parallelism=st.integers(0, 3),
    delay_s=st.sampled_from((0.0, 2.0)),
    failure_action=st.sampled_from(FailureAction),
    monitor_s=st.sampled_from((0.0, 5.0)),
    max_failure_ratio=st.sampled_from((0.0, 0.5, 1.0)),
    order=st.sampled_from(UpdateOrder),
    progress_timeout_s=st.sampled_from((0.0, 30.0)),
)
STEPS = st.lists(
    st.tuples(st.sampled_from(("image", "scale", "rollback", "nothing", "nothing", "nothing")), st.integers(0, 3)),
    max_size=30,
)


@settings(max_examples=120, deadline=None)
@given(replicas=st.integers(1, 4), config=CONFIGS, steps=STEPS, history=st.integers(0, 5))
def test_whatever_happens_statuses_follow_each_other_as_they_may_and_a_sound_spec_gets_through(
    replicas: int, config: UpdateConfig, steps: list[tuple[str, int]], history: int
) -> None:
    world = swarm(replicas, history=history)
    last: UpdateState | None = None
    for what, number in steps:
        if what == "image":
            world.edit(lambda spec, n=number: replace(to_image(f"image{n}")(spec), update=config, rollback=config))
        elif what == "scale":
            world.edit(lambda spec, n=number: replace(spec, mode=replace(spec.mode, replicas=n)))
        elif what == "rollback" and world.service().previous_spec is not None:
            world.update(lambda tx: tx.update(manual_rollback(world.service(), world.now)))
        last = assert_legal(world, last)
        index = -1
        while index != world.state.index:
            index = world.state.index
            world.update(lambda tx: reconcile_service(tx, "web"))
            last = assert_legal(world, last)
        for slot in {task.slot for task in world.wanted()}:
            wanted = [task for task in world.wanted() if task.slot == slot]
            assert len(wanted) <= 1 + (config.order is UpdateOrder.START_FIRST)
        world.place()
        world.agents(failing("image1"))
        world.reap()
        world.now += 1.5
    world.edit(to_image("sound"))
    for _ in range(400):
        wake_at = world.turn()
        world.reap()
        world.now = max(world.now + 1.0, wake_at or 0.0)
    wanted = world.service().spec.mode.replicas  # type: ignore[union-attr]
    assert images(world) == ["sound"] * wanted
    assert len(world.wanted()) == wanted
    assert world.service().update_status is None or status(world).state is U.COMPLETED


def assert_legal(world: World, last: UpdateState | None) -> UpdateState | None:
    found = world.service().update_status
    state = found.state if found is not None else None
    assert state == last or state in LEGAL[last], (last, state)
    return state
