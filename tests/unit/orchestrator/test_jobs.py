"""Replicated jobs (reference orchestration 3.3 and 10, scenarios 61-66, 68)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.model import (
    Availability,
    NodeState,
    ReplicatedJob,
    RestartCondition,
    RestartPolicy,
    Task,
    TaskState,
)
from swarmd.orchestrator.jobs import JobProgress, job_progress
from tests.unit.orchestrator.modes_world import ModesWorld

S = TaskState
ONCE = RestartPolicy(condition=RestartCondition.NONE)
AT_ONCE = RestartPolicy(condition=RestartCondition.ON_FAILURE, delay_s=0)


def job_world(total: int, at_a_time: int, restart: RestartPolicy = AT_ONCE, *, nodes: int = 2) -> ModesWorld:
    world = ModesWorld()
    for number in range(1, nodes + 1):
        world.add_node(f"n{number}")
    world.run(ReplicatedJob(total_completions=total, max_concurrent=at_a_time), restart=restart)
    world.reconcile()
    return world


def progress_of(world: ModesWorld) -> JobProgress:
    return job_progress(world.service_of(), world.state.tasks_of_service("web"))


def go(world: ModesWorld, outcome: TaskState, *slots: int) -> None:
    """Tasks of these slots get placed, run and end."""
    world.place()
    for task in world.live():
        if task.slot in slots:
            world.move(task, S.RUNNING)
            world.move(task, outcome)
    world.reconcile()


def test_the_first_pass_creates_as_many_as_may_run_at_a_time_in_slots_of_their_own() -> None:
    world = job_world(10, 3)
    assert [(t.slot, t.desired_state, t.job_iteration, t.status.state) for t in world.tasks()] == [
        (number, S.COMPLETE, 0, S.NEW) for number in (1, 2, 3)
    ]
    assert world.is_at_rest()


def test_without_a_limit_all_run_at_once() -> None:
    assert len(job_world(7, 0).tasks()) == 7


def test_with_some_under_way_only_the_difference_is_created() -> None:
    world = job_world(10, 4)
    go(world, S.COMPLETE, 1, 2)
    assert sorted(t.slot for t in world.live()) == [3, 4, 5, 6]


def test_what_is_asked_to_go_counts_for_nothing_and_its_slot_is_used_again() -> None:
    world = job_world(3, 2)
    world.place()
    victim = world.live()[0]
    world.set_node(victim.node_id, availability=Availability.DRAIN)
    world.reconcile()
    (old,) = [t for t in world.tasks(slot=victim.slot) if t.id == victim.id]
    (new,) = [t for t in world.tasks(slot=victim.slot) if t.id != victim.id]
    assert (old.desired_state, new.desired_state) == (S.SHUTDOWN, S.READY), "held until the old one has stopped"


@pytest.mark.parametrize("state", [NodeState.DOWN, None], ids=["down", "drained"])
def test_a_node_that_is_drained_or_down_hands_its_tasks_on(state: NodeState | None) -> None:
    world = job_world(4, 4)
    world.place()
    world.agents()
    world.set_node("n1", state=state, availability=None if state else Availability.DRAIN)
    world.work()
    assert progress_of(world).completed == 4
    assert {t.node_id for t in world.tasks() if t.status.state is S.COMPLETE} == {"n2"}


def test_failures_stay_in_their_slot_and_completions_keep_theirs() -> None:
    world = job_world(4, 4)
    go(world, S.FAILED, 1, 2)
    go(world, S.COMPLETE, 3)
    assert sorted(t.slot for t in world.live()) == [1, 2, 4]
    assert [len(world.tasks(slot=number)) for number in (1, 2, 3, 4)] == [2, 2, 1, 1]


def test_near_the_end_no_more_are_created_than_are_to_complete() -> None:
    world = job_world(5, 4)
    go(world, S.COMPLETE, 1, 2, 3)
    assert sorted(t.slot for t in world.live()) == [4, 5]
    go(world, S.COMPLETE, 4)
    assert sorted(t.slot for t in world.live()) == [5]
    go(world, S.COMPLETE, 5)
    assert world.live() == []
    assert len(world.tasks()) == 5
    assert world.is_at_rest()


def test_a_job_of_twenty_five_at_a_time_runs_to_its_end() -> None:
    world = job_world(20, 5)
    most = 0
    for _ in range(40):
        world.place()
        most = max(most, len(world.live()))
        go(world, S.COMPLETE, *range(1, 21))
    assert (progress_of(world).completed, most) == (20, 5)
    assert world.is_at_rest()


def test_an_update_removes_the_old_iteration_and_begins_the_next() -> None:
    world = job_world(3, 2)
    go(world, S.COMPLETE, 1)
    world.now += 1
    world.change(image="b")
    world.reconcile()
    assert {t.desired_state for t in world.tasks(job_iteration=0)} == {S.REMOVE}
    assert [(t.slot, t.spec.container.image) for t in world.tasks(job_iteration=1)] == [(1, "b"), (2, "b")]
    world.agents(lambda t: t.status.state)
    world.reap()
    assert world.tasks(job_iteration=0) == []
    world.work()
    assert progress_of(world) == JobProgress(iteration=1, total=3, completed=3)


def test_a_slot_of_the_next_iteration_waits_until_the_old_one_has_stopped() -> None:
    world = job_world(1, 1)
    world.place()
    world.agents()
    world.change(image="b")
    world.reconcile()
    (new,) = world.tasks(job_iteration=1)
    assert new.desired_state is S.READY
    world.agents()
    world.reconcile()
    (new,) = world.tasks(job_iteration=1)
    assert new.desired_state is S.COMPLETE


def test_a_job_for_nothing_and_one_that_is_gone_create_nothing() -> None:
    world = job_world(0, 0)
    assert world.tasks() == []
    assert world.reconcile("gone") is None


def test_a_removed_job_leaves_nothing() -> None:
    world = job_world(3, 2)
    go(world, S.COMPLETE, 1)
    world.remove_service()
    world.reconcile()
    world.agents()
    world.reap()
    assert world.tasks() == []


def test_condition_none_is_not_tried_again_whatever_else_happens() -> None:
    world = job_world(3, 1, ONCE)
    go(world, S.FAILED, 1)
    assert [t.slot for t in world.live()] == [2], "the next has its turn"
    go(world, S.COMPLETE, 2)
    go(world, S.COMPLETE, 3)
    world.work()
    assert [len(world.tasks(slot=number)) for number in (1, 2, 3)] == [1, 1, 1]
    assert progress_of(world) == JobProgress(total=3, completed=2, failed=1)


@pytest.mark.parametrize("condition", [RestartCondition.ON_FAILURE, RestartCondition.ANY])
def test_three_attempts_are_three_restarts(condition: RestartCondition) -> None:
    world = job_world(2, 2, RestartPolicy(condition=condition, max_attempts=3, delay_s=5))
    world.work(outcome=lambda task: S.FAILED if task.slot == 1 else S.COMPLETE)
    assert [len(world.tasks(slot=number)) for number in (1, 2)] == [4, 1]
    assert progress_of(world) == JobProgress(total=2, completed=1, failed=1)
    world.change(image="b")
    world.work()
    assert progress_of(world) == JobProgress(iteration=1, total=2, completed=2), "the next iteration starts afresh"


def test_a_restart_waits_for_its_delay_and_is_released_to_complete() -> None:
    world = job_world(1, 1, RestartPolicy(condition=RestartCondition.ANY, delay_s=5))
    go(world, S.FAILED, 1)
    assert world.live()[0].desired_state is S.READY
    assert world.reconcile() == world.now + 5
    world.now += 5
    world.reconcile()
    assert world.live()[0].desired_state is S.COMPLETE


def test_a_task_that_completes_after_it_was_asked_to_go_has_completed() -> None:
    world = job_world(1, 1)
    world.place()
    world.agents()
    (old,) = world.live()
    world.set_node(old.node_id, availability=Availability.DRAIN)
    world.reconcile()
    assert [t.slot for t in world.live()] == [1]
    world.move(old, S.COMPLETE)
    world.reconcile()
    assert world.live() == []
    world.work()
    assert progress_of(world).completed == 1
    assert S.COMPLETE in {t.status.state for t in world.tasks()}


@pytest.mark.parametrize("history", [0, 2])
def test_history_is_kept_to_its_limit_and_completions_are_not_forgotten(history: int) -> None:
    world = ModesWorld(history=history)
    world.add_node("n1")
    world.run(ReplicatedJob(total_completions=3, max_concurrent=3), restart=AT_ONCE)
    failures = dict.fromkeys((1, 2, 3), 0)

    def outcome(task: Task) -> TaskState:
        failures[task.slot] += 1
        return S.COMPLETE if failures[task.slot] > 4 else S.FAILED

    world.work(outcome=outcome)
    assert progress_of(world).completed == 3
    assert all(len(world.tasks(slot=number)) <= max(history, 2) for number in (1, 2, 3))
    world.reap()
    world.reconcile()
    assert world.live() == []


def test_progress_tells_what_runs_and_what_waits() -> None:
    world = job_world(10, 3)
    world.place()
    world.move(world.live()[0], S.RUNNING)
    assert progress_of(world) == JobProgress(total=10, active=3, running=1)


# -- whatever happens --------------------------------------------------------------------------------------------------
def assert_never_too_many(world: ModesWorld, total: int, at_a_time: int) -> None:
    live = world.live()
    assert len({t.slot for t in live}) == len(live) <= (at_a_time or total)
    completed = {t.slot for t in world.tasks() if t.status.state is S.COMPLETE and t.desired_state < S.REMOVE}
    assert len(completed | {t.slot for t in live}) <= total


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_happens_exactly_the_total_completes(seed: int) -> None:
    rng = random.Random(seed)
    total, at_a_time = rng.randrange(6), rng.randrange(4)
    restart = RestartPolicy(condition=rng.choice(list(RestartCondition)[1:]), delay_s=rng.choice((0, 5)))
    world = job_world(total, at_a_time, restart, nodes=3)
    for _ in range(25):
        what = rng.randrange(5)
        if what == 0:
            node = rng.choice([*world.state.nodes()])
            state = rng.choice((NodeState.READY, NodeState.DOWN))
            world.set_node(node.id, state=state, availability=rng.choice(list(Availability)))
        elif what == 1 and rng.random() < 0.2:
            world.change(image=rng.choice("abc"))
        elif what == 2:
            world.reap()
        world.now += rng.choice((0, 3, 70))
        world.reconcile()
        assert_never_too_many(world, total, at_a_time)
        world.place()
        world.agents(lambda _: rng.choice((S.RUNNING, S.RUNNING, S.FAILED, S.REJECTED, S.COMPLETE)))
    for node in tuple(world.state.nodes()):
        world.set_node(node.id, state=NodeState.READY, availability=Availability.ACTIVE)
    world.work(turns=400)
    progress = progress_of(world)
    assert (progress.completed, progress.active, progress.failed) == (total, 0, 0)
    assert world.is_at_rest()
