"""Which records are deleted (reference orchestration 10, scenarios 70-73)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from swarmd.model import RestartPolicy, TaskState, TaskStatus
from swarmd.state.batch import CHANGES_MAX
from tests.unit.orchestrator.world import World

S = TaskState
OBSERVED = [state for state in TaskState if state is not S.REMOVE]


def crashing(limit: int | None, restart: RestartPolicy, crashes: int) -> World:
    world = World()
    world.add_node("n1")
    if limit is not None:
        world.set_history(limit)
    world.add_service(replicas=2, restart=restart)
    world.settle()
    for _ in range(crashes):
        for task in world.wanted():
            world.move(task, S.FAILED)
        world.settle()
    return world


@pytest.mark.parametrize(
    ("limit", "kept"), [(None, 5), (2, 2), (1, 1), (0, 1), (-1, 9)], ids=["default", "two", "one", "none", "all"]
)
def test_each_slot_keeps_so_many_records_the_running_one_included(limit: int | None, kept: int) -> None:
    world = crashing(limit, RestartPolicy(), 8)
    for slot in (1, 2):
        tasks = world.tasks(slot=slot)
        assert len(tasks) == kept
        assert [t.status.state for t in tasks].count(S.RUNNING) == 1


def test_the_oldest_go_first() -> None:
    world = crashing(3, RestartPolicy(), 6)
    ends = [t.status.at for t in world.tasks(slot=1) if t.status.state == S.FAILED]
    assert len(ends) == 2
    assert min(ends) > 1000.0 + 5 * 3


def test_limited_attempts_replace_the_clusters_limit() -> None:
    world = crashing(-1, RestartPolicy(max_attempts=2, window_s=1), 8)
    assert len(world.tasks(slot=1)) == 3


def test_records_wanted_gone_stay_until_nothing_of_them_runs() -> None:
    world = World()
    world.add_node("n1")
    world.add_service(replicas=3)
    world.settle()
    world.set_service(replicas=0)
    world.reconcile()
    world.reap()
    assert len(world.tasks()) == 3
    world.agents()
    world.reap()
    assert world.tasks() == []


@pytest.mark.parametrize("desired", [S.RUNNING, S.SHUTDOWN, S.REMOVE])
@pytest.mark.parametrize("observed", OBSERVED)
def test_what_may_be_deleted(desired: TaskState, observed: TaskState) -> None:
    world = World()
    world.set_history(0)
    world.add_node("n1")
    world.add_service()
    world.settle()
    task = replace(
        world.only(),
        id=world.update(lambda tx: tx.new_id()),
        slot=1,
        status=TaskStatus(state=observed, at=1.0),
        desired_state=desired,
        node_id="n1" if observed >= S.ASSIGNED else "",
    )
    current = replace(world.only(), id=world.update(lambda tx: tx.new_id()))
    world.update(lambda tx: (tx.create(task), tx.create(current)))  # the newest of the slot runs
    world.reap()
    has_stopped = observed > S.RUNNING or observed < S.ASSIGNED
    assert bool(world.tasks(id=task.id)) is not (desired > S.RUNNING and has_stopped)


def test_a_large_removal_goes_in_bounded_transactions() -> None:
    world = World()
    world.add_service(replicas=CHANGES_MAX + 1)
    world.reconcile()
    world.remove_service()
    world.reconcile()
    before = world.writes
    world.reap()
    assert world.writes - before == 2
    assert world.tasks() == []
