from __future__ import annotations

import pytest

from swarmd.allocator import Admitted, admit, is_new
from swarmd.model import ContainerSpec, Task, TaskSpec, TaskState, TaskStatus
from swarmd.state.command import Advance, CommandId
from tests.unit.orchestrator.world import World

S = TaskState
_ID = CommandId(1, b"boot", 1)


def make_task(id: str, state: TaskState, desired: TaskState = S.RUNNING) -> Task:
    spec = TaskSpec(container=ContainerSpec(image="a"))
    return Task(id=id, slot=len(id), spec=spec, status=TaskStatus(state=state), desired_state=desired)


@pytest.mark.parametrize(
    ("state", "desired", "waits"),
    [
        (S.NEW, S.RUNNING, True),
        (S.NEW, S.READY, True),
        (S.NEW, S.SHUTDOWN, False),
        (S.NEW, S.REMOVE, False),
        (S.PENDING, S.RUNNING, False),
        (S.ORPHANED, S.RUNNING, False),
    ],
)
def test_which_tasks_wait_at_the_gate(state: TaskState, desired: TaskState, waits: bool) -> None:
    assert is_new(make_task("t", state, desired)) is waits


def test_those_that_still_wait_pass_with_one_shared_status() -> None:
    world = World()
    for task in (make_task("a", S.NEW), make_task("bb", S.NEW), make_task("ccc", S.NEW, S.REMOVE)):
        world.add_task(task)
    tx = world.state.begin(world.now, world.rng)
    assert admit(tx, ["a", "bb", "ccc", "gone"]) == Admitted(passed=2)
    command = tx.command(_ID, actor="test")
    (advance,) = command.changes
    assert isinstance(advance, Advance)
    assert [id for id, _ in advance.items] == ["a", "bb"]
    assert (advance.status.state, advance.status.message) == (S.PENDING, "pending task scheduling")
    assert command.claims == ()


def test_passing_twice_changes_nothing() -> None:
    world = World()
    world.add_task(make_task("a", S.NEW))
    world.update(lambda tx: admit(tx, ["a"]))
    before = world.writes
    assert world.update(lambda tx: admit(tx, ["a"])) == Admitted()
    assert world.writes == before
