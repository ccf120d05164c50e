"""`service.rebalance` and its plan, over the real state."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from swarmd.errors import FailedPrecondition, Invalid, NotFound
from swarmd.model import (
    Availability,
    Global,
    Placement,
    PlacementStrategy,
    ResourceLimits,
    ResourceRequirements,
    Resources,
    Service,
    TaskSpec,
    TaskState,
    UpdateState,
    UpdateStatus,
)
from swarmd.state.features import ORCHESTRATION
from swarmd.wire.methods import SERVICE_REBALANCE, SERVICE_REBALANCE_PLAN
from swarmd.wire.orchestration import RebalanceService
from tests.unit.manager.control_api.api_world import World, service_spec, task_of
from tests.unit.manager.local_store import EPOCH


@pytest.fixture
def world() -> World:
    world = World()
    world.add_cluster()
    world.raise_feature_level(ORCHESTRATION)
    for id in ("w1", "w2", "w3"):
        node = world.add_node(id, availability=Availability.DRAIN if id == "w3" else Availability.ACTIVE)
        description = replace(node.description, resources=Resources(nano_cpus=4 * 10**9))
        there = replace(node, status=replace(node.status, confirmed=True), description=description)
        world.store.write(lambda tx, there=there: tx.update(there))
    return world


def add_service(world: World, *, on: dict[str, int], task: TaskSpec | None = None, **fields: Any) -> Service:
    spec = service_spec(replicas=sum(on.values()))
    spec = replace(spec, task=task or spec.task, **fields.pop("spec", {}))
    service = Service(id="s1", spec=spec, spec_version=1, **fields)
    world.store.create(service)
    places = [id for id, count in on.items() for _ in range(count)]
    world.add_tasks(
        replace(task_of(f"t{slot}", "s1", slot=slot, node=id), spec=spec.task, spec_version=1)
        for slot, id in enumerate(places, start=1)
    )
    return service


async def test_the_plan_writes_nothing_and_the_rebalance_what_it_said(world: World) -> None:
    add_service(world, on={"w1": 4})
    index = world.store.state.index
    plan = await world.ask(SERVICE_REBALANCE_PLAN, RebalanceService(id="s1"))
    assert [(move.task_id, move.from_node_id, move.to_node_id) for move in plan.moves] == [
        ("t4", "w1", "w2"),
        ("t3", "w1", "w2"),
    ]
    assert world.store.state.index == index
    done = await world.ask(SERVICE_REBALANCE, RebalanceService(id="s1"))
    assert done.moves == plan.moves
    service = world.store.state.service("s1")
    assert service is not None
    assert service.rebalancing is not None
    assert service.rebalancing.task_ids == ("t4", "t3")
    assert service.rebalancing.started_at >= EPOCH
    assert done.service.service == service


async def test_what_is_spread_already_is_left_alone(world: World) -> None:
    add_service(world, on={"w1": 2, "w2": 1})
    index = world.store.state.index
    assert (await world.ask(SERVICE_REBALANCE, RebalanceService(id="s1"))).moves == ()
    assert world.store.state.index == index


async def test_at_most_so_many_moves_and_only_where_there_is_room(world: World) -> None:
    cpus = ResourceRequirements(reservations=ResourceLimits(nano_cpus=10**9))
    add_service(world, on={"w1": 4}, task=replace(service_spec().task, resources=cpus))
    world.add_tasks([replace(task_of("big", "other", node="w2"), spec=TaskSpec(
        container=service_spec().task.container,
        resources=ResourceRequirements(reservations=ResourceLimits(nano_cpus=3 * 10**9)),
    ))])  # fmt: skip
    assert len((await world.ask(SERVICE_REBALANCE_PLAN, RebalanceService(id="s1"))).moves) == 1


async def test_the_limit_of_moves(world: World) -> None:
    add_service(world, on={"w1": 6})
    assert len((await world.ask(SERVICE_REBALANCE_PLAN, RebalanceService(id="s1"))).moves) == 3
    assert len((await world.ask(SERVICE_REBALANCE_PLAN, RebalanceService(id="s1", max_moves=2))).moves) == 2


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"spec": {"mode": Global()}}, "only replicated"),
        ({"task": replace(service_spec().task, placement=Placement(strategy=PlacementStrategy.BINPACK))}, "packed"),
        ({"update_status": UpdateStatus(state=UpdateState.UPDATING)}, "not as its spec says yet"),
    ],
)
async def test_services_that_are_not_to_be_spread_now(world: World, fields: dict[str, Any], says: str) -> None:
    add_service(world, on={"w1": 4}, **fields)
    before = world.store.state.digest
    for method in (SERVICE_REBALANCE, SERVICE_REBALANCE_PLAN):
        with pytest.raises(FailedPrecondition, match=says):
            await world.ask(method, RebalanceService(id="s1"))
    assert world.store.state.digest == before


async def test_tasks_that_are_outdated_are_moved_by_their_update_alone(world: World) -> None:
    add_service(world, on={"w1": 4})
    old = task_of("t5", "s1", slot=5, node="w2", state=TaskState.RUNNING)
    container = replace(old.spec.container, image="app:0")
    world.add_tasks([replace(old, spec=replace(old.spec, container=container))])
    with pytest.raises(FailedPrecondition, match="not as its spec says yet"):
        await world.ask(SERVICE_REBALANCE, RebalanceService(id="s1"))


@pytest.mark.parametrize("method", [SERVICE_REBALANCE, SERVICE_REBALANCE_PLAN])
async def test_bad_requests(world: World, method: Any) -> None:
    with pytest.raises(NotFound):
        await world.ask(method, RebalanceService(id="nothing"))
    with pytest.raises(Invalid):
        await world.ask(method, RebalanceService(id=""))
    with pytest.raises(Invalid, match="negative"):
        await world.ask(method, RebalanceService(id="nothing", max_moves=-1))
