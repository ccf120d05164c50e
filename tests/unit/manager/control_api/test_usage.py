"""What tasks take of nodes, and what is left, as `node.list` and `node.get` say it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from swarmd.manager.control_api.usage import usage_by_node, usage_of
from swarmd.model import (
    GenericResource,
    Node,
    ResourceLimits,
    ResourceRequirements,
    Resources,
    Task,
    TaskState,
)
from swarmd.state.features import ORCHESTRATION
from swarmd.wire.control import GetObject, ListNodes, NodeView
from swarmd.wire.methods import NODE_GET, NODE_LIST
from tests.unit.manager.control_api.api_world import World, task_of

GIB = 1 << 30


@pytest.fixture
def world() -> World:
    world = World()
    world.add_cluster()
    world.raise_feature_level(ORCHESTRATION)
    return world


def equip(world: World, id: str, **resources: Any) -> Node:
    node = world.add_node(id)
    node = replace(node, description=replace(node.description, resources=Resources(**resources)))
    world.store.write(lambda tx: tx.update(node))
    return node


def taking(id: str, node: str, *, state: TaskState = TaskState.RUNNING, got: Any = (), **reserved: Any) -> Task:
    task = task_of(id, "s1", node=node, state=state)
    resources = ResourceRequirements(reservations=ResourceLimits(**reserved))
    return replace(task, spec=replace(task.spec, resources=resources), assigned_generic_resources=got)


async def seen(world: World, id: str) -> NodeView:
    """The node in the list, which says the same as asking for it."""
    listed = {view.node.id: view for view in (await world.ask(NODE_LIST, ListNodes())).nodes}
    assert await world.ask(NODE_GET, GetObject(id=id)) == listed[id]
    return listed[id]


async def test_what_is_set_aside_counts_until_the_task_has_stopped(world: World) -> None:
    equip(world, "w1", nano_cpus=4 * 10**9, memory_bytes=8 * GIB)
    equip(world, "w2", nano_cpus=10**9)
    world.add_tasks([
        taking("a", "w1", nano_cpus=10**9, memory_bytes=GIB),
        taking("b", "w1", state=TaskState.ASSIGNED, nano_cpus=10**9),
        taking("c", "w1", state=TaskState.FAILED, nano_cpus=10**9),
        taking("d", "", state=TaskState.PENDING, nano_cpus=10**9),
    ])  # fmt: skip
    view = await seen(world, "w1")
    assert (view.tasks, view.reserved.nano_cpus, view.reserved.memory_bytes) == (2, 2 * 10**9, GIB)
    assert (view.allocatable.nano_cpus, view.allocatable.memory_bytes) == (2 * 10**9, 7 * GIB)
    idle = await seen(world, "w2")
    assert (idle.tasks, idle.reserved, idle.allocatable) == (0, Resources(), Resources(nano_cpus=10**9))


async def test_generic_resources_by_amount_and_by_name(world: World) -> None:
    gpus = GenericResource(kind="gpu", names=("g1", "g2", "g3"))
    equip(world, "w1", generic=(gpus, GenericResource(kind="licence", amount=5)))
    got = (GenericResource(kind="gpu", names=("g2",)), GenericResource(kind="licence", amount=2))
    world.add_tasks([taking("a", "w1", got=got)])
    view = await seen(world, "w1")
    assert view.reserved.generic == got
    assert view.allocatable.generic == (
        GenericResource(kind="gpu", names=("g1", "g3")),
        GenericResource(kind="licence", amount=3),
    )


async def test_what_was_given_away_beyond_what_there_is_leaves_nothing(world: World) -> None:
    equip(world, "w1", nano_cpus=10**9, generic=(GenericResource(kind="gpu", amount=1),))
    world.add_tasks([taking("a", "w1", nano_cpus=3 * 10**9, got=(GenericResource(kind="gpu", amount=2),))])
    view = await seen(world, "w1")
    assert (view.allocatable.nano_cpus, view.allocatable.generic) == (0, (GenericResource(kind="gpu", amount=0),))


def test_one_pass_over_all_tasks_says_the_same_as_each_node_alone(world: World) -> None:
    tasks = [taking(f"t{n}", f"w{n % 3}", nano_cpus=n, memory_bytes=2 * n) for n in range(20)]
    world.add_tasks(tasks)
    for id, usage in usage_by_node(world.store.state).items():
        alone = usage_of([task for task in tasks if task.node_id == id])
        assert (usage.tasks, usage.nano_cpus, usage.memory_bytes) == (alone.tasks, alone.nano_cpus, alone.memory_bytes)
