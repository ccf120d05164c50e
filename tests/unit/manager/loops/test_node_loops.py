"""The loops that look at nodes: the constraint enforcer, and the alarm for nodes that stay DOWN."""

from __future__ import annotations

import random
from typing import Any

import trio
import trio.testing
from msgspec.structs import replace

from swarmd.manager.loops import EnforcerLoop, LostNodesLoop
from swarmd.manager.loops.enforcer import ON_ITS_WAY_S
from swarmd.model import (
    ContainerSpec,
    Node,
    NodeDescription,
    NodeState,
    NodeStatus,
    Placement,
    Service,
    ServiceSpec,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from swarmd.orchestrator.lost_nodes import ORPHANED_AFTER_S
from swarmd.state.command import Table
from swarmd.state.watch import Event
from tests.unit.manager.local_store import EPOCH, LocalStore

S = TaskState


def make_node(id: str = "n1", state: NodeState = NodeState.READY) -> Node:
    return Node(id=id, status=NodeStatus(state=state, confirmed=True), description=NodeDescription(hostname=id))


def bound_objects() -> tuple[Service, Task]:
    spec = TaskSpec(container=ContainerSpec(image="a"), placement=Placement(constraints=("node.labels.disk==ssd",)))
    task = Task(id="t", service_id="web", slot=1, node_id="n1", spec=spec, status=TaskStatus(state=S.RUNNING))
    return Service(id="web", spec=ServiceSpec(name="web", task=spec)), task


async def write(store: LocalStore, *objects: Any, update: bool = False) -> None:
    def change(tx: Any) -> None:
        for object in objects:
            (tx.update if update else tx.create)(object)

    await store.update(change, actor="test")


def state_of(store: LocalStore, id: str = "t") -> TaskState:
    task = store.state.task(id)
    assert task is not None
    return task.status.state


async def test_a_label_that_is_taken_away_turns_the_task_out(autojump_clock: trio.testing.MockClock) -> None:
    store = LocalStore()
    node = make_node()
    node = replace(node, spec=replace(node.spec, labels={"disk": "ssd"}))
    await write(store, node, *bound_objects())
    async with trio.open_nursery() as nursery:
        await nursery.start(EnforcerLoop(store, now=store.now, rng=random.Random(1)).run)
        await trio.sleep(1)
        assert state_of(store) is S.RUNNING
        await write(store, replace(node, spec=replace(node.spec, labels={})), update=True)
        await trio.sleep(1)
        assert state_of(store) is S.REJECTED
        nursery.cancel_scope.cancel()


async def test_a_new_leader_looks_at_every_node(autojump_clock: trio.testing.MockClock) -> None:
    store = LocalStore()
    await write(store, make_node(), *bound_objects())
    async with trio.open_nursery() as nursery:
        await nursery.start(EnforcerLoop(store, now=store.now, rng=random.Random(1)).run)
        await trio.sleep(1)
        assert state_of(store) is S.REJECTED
        nursery.cancel_scope.cancel()


async def test_a_task_that_was_on_its_way_while_the_label_was_taken_away_is_turned_out(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = LocalStore()
    service, task = bound_objects()
    waiting = replace(task, node_id="", status=TaskStatus(state=S.PENDING))
    node = make_node()
    await write(store, replace(node, spec=replace(node.spec, labels={"disk": "ssd"})), service, waiting)
    async with trio.open_nursery() as nursery:
        await nursery.start(EnforcerLoop(store, now=store.now, rng=random.Random(1)).run)
        await trio.sleep(1)
        decided = TaskStatus(state=S.ASSIGNED, at=store.now())
        await trio.sleep(0.1)
        await write(store, node, update=True)
        await trio.sleep(1)
        await store.update(lambda tx: tx.assign("t", "n1", decided), actor="test")
        await trio.sleep(1)
        assert state_of(store) is S.REJECTED
        nursery.cancel_scope.cancel()


def test_an_assignment_to_a_node_that_stayed_as_it_was_is_no_reason_to_look() -> None:
    store = LocalStore()
    store.create(make_node())
    loop = EnforcerLoop(store, now=lambda: 0.0, rng=random.Random(1))
    _, task = bound_objects()
    assigned = replace(task, status=TaskStatus(state=S.ASSIGNED, at=EPOCH + ON_ITS_WAY_S + 1))
    waiting = replace(task, node_id="", status=TaskStatus(state=S.PENDING))
    assert list(loop.keys_of(Event(table=Table.TASK, old=waiting, new=assigned, index=1))) == []


def test_what_a_heartbeat_changes_is_no_reason_to_look() -> None:
    loop = EnforcerLoop(LocalStore(), now=lambda: 0.0, rng=random.Random(1))
    old = make_node()
    beaten = replace(old, status=replace(old.status, confirmed=False, message="heartbeat"))
    moved = replace(old, status=replace(old.status, addr="192.0.2.1"))
    assert list(loop.keys_of(Event(table=Table.NODE, old=old, new=beaten, index=1))) == []
    assert list(loop.keys_of(Event(table=Table.NODE, old=old, new=moved, index=1))) == ["n1"]


async def test_the_alarm_of_a_node_that_is_down_rings_after_a_day(autojump_clock: trio.testing.MockClock) -> None:
    store = LocalStore()
    await write(store, make_node(), *bound_objects())
    async with trio.open_nursery() as nursery:
        await nursery.start(LostNodesLoop(store, now=store.now, rng=random.Random(1)).run)
        await write(store, make_node(state=NodeState.DOWN), update=True)
        await trio.sleep(ORPHANED_AFTER_S - 60)
        assert state_of(store) is S.RUNNING
        await trio.sleep(120)
        assert state_of(store) is S.ORPHANED
        nursery.cancel_scope.cancel()
