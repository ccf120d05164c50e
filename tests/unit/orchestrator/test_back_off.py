"""The delay before a restart doubles while failures repeat, whatever the leader and the history limit."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from swarmd.model import Availability, Global, Replicated, RestartPolicy, TaskState
from swarmd.orchestrator.restart import BACK_OFF_S_MAX, HEALTHY_S, back_off_s
from tests.unit.orchestrator.modes_world import ModesWorld
from tests.unit.orchestrator.world import World

S = TaskState


def crash_world(history: int = 5, delay_s: float = 5.0, mode: Replicated | Global | None = None) -> ModesWorld:
    world = ModesWorld(history=history)
    world.add_node("n1")
    world.run(mode or Replicated(replicas=1), restart=RestartPolicy(delay_s=delay_s))
    world.settle()
    return world


def crash(world: World, outcome: TaskState = S.FAILED, after_s: float = 0.1) -> float:
    """The running task ends so long after it started; how long its successor was held."""
    (task,) = world.running()
    world.now = task.status.at + after_s
    world.move(task, outcome)
    failed_at = world.now
    for _ in range(5):
        world.turn()
        world.reap()
    (held,) = world.wanted()
    wake_at = world.reconcile()
    assert held.desired_state is S.READY
    assert wake_at is not None
    world.now = wake_at
    world.settle()
    return wake_at - failed_at


@pytest.mark.parametrize("history", [0, 1, 5])
@pytest.mark.parametrize("mode", [Replicated(replicas=1), Global()], ids=["replicated", "global"])
def test_the_delay_doubles_up_to_five_minutes_whatever_the_history_limit(
    history: int, mode: Replicated | Global
) -> None:
    world = crash_world(history, mode=mode)
    delays = [round(crash(world), 3) for _ in range(9)]
    assert delays == [5, 10, 20, 40, 80, 160, BACK_OFF_S_MAX, BACK_OFF_S_MAX, BACK_OFF_S_MAX]


def test_ten_minutes_of_running_begin_a_new_row() -> None:
    world = crash_world()
    assert [round(crash(world)) for _ in range(3)] == [5, 10, 20]
    assert round(crash(world, after_s=HEALTHY_S - 1)) == 40
    assert round(crash(world, after_s=HEALTHY_S)) == 5
    assert round(crash(world)) == 10


def test_a_good_end_is_no_failure() -> None:
    world = crash_world()
    assert [round(crash(world, S.COMPLETE)) for _ in range(3)] == [5, 5, 5]
    crash(world)
    assert round(crash(world)) == 10
    assert round(crash(world, S.COMPLETE)) == 5


def test_a_new_template_starts_afresh() -> None:
    world = crash_world()
    for _ in range(4):
        crash(world)
    world.change(image="b")
    world.settle()
    assert round(crash(world)) == 5


def test_an_evicted_tasks_successor_starts_afresh_elsewhere() -> None:
    world = crash_world()
    for _ in range(4):
        crash(world)
    world.add_node("n2")
    world.set_node("n1", availability=Availability.DRAIN)
    world.settle()
    assert [(t.node_id, t.failures) for t in world.running()] == [("n2", 0)]


def test_until_every_manager_knows_the_count_the_delay_stays() -> None:
    world = ModesWorld(level=())
    world.add_node("n1")
    world.add_service()
    world.settle()
    assert [round(crash(world)) for _ in range(3)] == [5, 5, 5]
    assert {t.failures for t in world.tasks()} == {0}


def test_a_task_that_fails_before_it_is_released_counts_too() -> None:
    world = crash_world()
    crash(world)
    (task,) = world.running()
    world.move(task, S.FAILED)
    world.reconcile()
    (held,) = world.wanted()
    assert held.failures == 2
    world.place()
    world.move(replace(held, node_id="n1"), S.REJECTED)
    at = world.reconcile()
    assert at == held.meta.created_at + 10
    world.now = at
    world.reconcile()
    (next_one,) = world.wanted()
    assert (next_one.failures, next_one.desired_state) == (3, S.READY)


def test_the_window_stands_still_while_a_restart_is_held() -> None:
    world = ModesWorld()
    world.add_node("n1")
    world.run(Replicated(replicas=1), restart=RestartPolicy(max_attempts=4, window_s=30, delay_s=5))
    world.settle()
    for _ in range(4):
        crash(world, after_s=1)
    (task,) = world.running()
    world.move(task, S.FAILED)
    world.settle()
    assert world.wanted() == [], "75 s of delays, 4 s of running"


def test_what_ran_for_longer_than_the_window_has_all_attempts_again() -> None:
    world = ModesWorld()
    world.add_node("n1")
    world.run(Replicated(replicas=1), restart=RestartPolicy(max_attempts=1, window_s=30, delay_s=5))
    world.settle()
    for _ in range(6):
        crash(world, after_s=31)
    assert len(world.running()) == 1


@pytest.mark.parametrize(
    ("delay_s", "failures", "expected"),
    [(5, 0, 5), (5, 1, 5), (5, 2, 10), (5, 7, 300), (5, 10_000, 300), (0, 1, 0), (0, 2, 2), (0, 3, 4), (900, 5, 900)],
)
def test_the_delays(delay_s: float, failures: int, expected: float) -> None:
    assert back_off_s(delay_s, failures) == expected
