"""What the scheduler's loop writes beside plain assignments."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from swarmd.manager.loops import SchedulerLoop
from swarmd.model import (
    Availability,
    Cluster,
    ContainerSpec,
    GenericResource,
    Node,
    NodeDescription,
    NodeSpec,
    NodeState,
    NodeStatus,
    ResourceLimits,
    ResourceRequirements,
    Resources,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from swarmd.state.command import Table
from swarmd.state.features import ORCHESTRATION
from tests.unit.manager.local_store import LocalStore

S = TaskState
GPUS = GenericResource(kind="gpu", names=("a", "b", "c"))


@pytest.fixture
def store() -> LocalStore:
    return LocalStore()


@asynccontextmanager
async def running(store: LocalStore) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(SchedulerLoop(store, now=store.now, rng=random.Random(1)).run)
        yield
        nursery.cancel_scope.cancel()


def make_node(id: str) -> Node:
    return Node(
        id=id,
        status=NodeStatus(state=NodeState.READY, confirmed=True),
        description=NodeDescription(hostname=id, resources=Resources(generic=(GPUS,)), features=(ORCHESTRATION,)),
    )


def make_task(id: str, *, gpus: int = 0, **fields: Any) -> Task:
    generic = (GenericResource(kind="gpu", amount=gpus),) if gpus else ()
    resources = ResourceRequirements(reservations=ResourceLimits(generic=generic))
    spec = TaskSpec(container=ContainerSpec(image="a"), resources=resources)
    return Task(id=id, spec=spec, status=TaskStatus(state=S.PENDING), service_id="web", **fields)


def cluster(*features: str) -> Cluster:
    return Cluster(id="c", feature_level=features)


def found(store: LocalStore, id: str) -> Task:
    task = store.state.task(id)
    assert task is not None
    return task


async def test_members_of_a_set_are_written_with_the_assignment(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(cluster(ORCHESTRATION), make_node("n1"), *[make_task(f"t{i}", gpus=1, slot=i) for i in (1, 2)])
    async with running(store):
        await trio.sleep(1)
        store.create(make_task("t3", gpus=2, slot=3))
        await trio.sleep(1)
        assert found(store, "t3").status.err == "no suitable node (insufficient resources on 1 node: gpu)"
        store.write(lambda tx: tx.remove(Table.TASK, "t1"))
        await trio.sleep(1)
    assert found(store, "t2").assigned_generic_resources == (GenericResource(kind="gpu", names=("b",)),)
    third = found(store, "t3")
    assert third.assigned_generic_resources == (GenericResource(kind="gpu", names=("a", "c")),)
    assert (third.node_id, third.status.state) == ("n1", S.ASSIGNED)
    assert third.status.message == "scheduler assigned task to node"


async def test_a_new_leader_gives_nothing_out_twice(store: LocalStore, autojump_clock: trio.testing.MockClock) -> None:
    store.create(cluster(ORCHESTRATION), make_node("n1"))
    for i in range(3):
        store.create(make_task(f"t{i}", gpus=1, slot=i + 1))
        async with running(store):
            await trio.sleep(1)
    given = [one.names for i in range(3) for one in found(store, f"t{i}").assigned_generic_resources]
    assert given == [("a",), ("b",), ("c",)]


async def test_a_task_bound_to_a_node_is_confirmed_with_what_it_gets(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(cluster(ORCHESTRATION), make_node("n1"), make_node("n2"))
    store.create(make_task("plain", node_id="n2", slot=1), make_task("rich", gpus=3, node_id="n2", slot=2))
    async with running(store):
        await trio.sleep(1)
    for id in ("plain", "rich"):
        task = found(store, id)
        assert (task.node_id, task.status.state) == ("n2", S.ASSIGNED)
        assert task.status.message == "scheduler confirmed task can run on preassigned node"
    assert found(store, "rich").assigned_generic_resources == (GPUS,)


@pytest.mark.parametrize("level", [(ORCHESTRATION,), ()], ids=["every manager knows", "one does not yet"])
async def test_a_task_without_a_node_keeps_the_numbers_once_every_manager_knows_them(
    store: LocalStore, autojump_clock: trio.testing.MockClock, level: tuple[str, ...]
) -> None:
    drained = NodeSpec(availability=Availability.DRAIN)
    ready = NodeStatus(state=NodeState.READY, confirmed=True)
    store.create(cluster(*level), Node(id="n1", spec=drained, status=ready, description=NodeDescription(hostname="n1")))
    store.create(*[make_task(f"t{i}", slot=i) for i in range(3)])
    async with running(store):
        await trio.sleep(1)
    status = found(store, "t1").status
    assert status.err == "no suitable node (1 node not available for new tasks: 1 drained)"
    if not level:
        assert status.unplaced is None
        return
    assert status.unplaced is not None
    assert status.unplaced.fix == "activate node n1, which is drained"
    assert [verdict.examples for verdict in status.unplaced.verdicts] == [("n1",)]


async def test_the_numbers_go_with_the_wait(store: LocalStore, autojump_clock: trio.testing.MockClock) -> None:
    store.create(cluster(ORCHESTRATION), make_task("t1", slot=1))
    async with running(store):
        await trio.sleep(1)
        assert found(store, "t1").status.unplaced is not None
        store.create(make_node("n1"))
        await trio.sleep(1)
    assert found(store, "t1").status.state is S.ASSIGNED
    assert found(store, "t1").status.unplaced is None


async def test_many_whole_tasks_are_written_in_batches_that_fit(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    gpus = GenericResource(kind="gpu", names=tuple(f"g{i:03}" for i in range(600)))
    node = make_node("n1")
    description = NodeDescription(hostname="n1", resources=Resources(generic=(gpus,)), features=(ORCHESTRATION,))
    store.create(cluster(ORCHESTRATION), Node(id="n1", status=node.status, description=description))
    store.create(*[make_task(f"t{i}", gpus=1, slot=i) for i in range(600)])
    async with running(store):
        await trio.sleep(3)
    given = {name for i in range(600) for one in found(store, f"t{i}").assigned_generic_resources for name in one.names}
    assert given == set(gpus.names)
