"""Why a task is not running and a service not what it should be: what was said, and what each node says now."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from swarmd.errors import Invalid, NotFound
from swarmd.manager.control_api import why
from swarmd.manager.control_api.node_verdicts import verdict
from swarmd.model import (
    Availability,
    ContainerStatus,
    Driver,
    Endpoint,
    GenericResource,
    Node,
    Placement,
    PlacementFailure,
    Platform,
    Plugin,
    PortConfig,
    PublishMode,
    ResourceLimits,
    ResourceRequirements,
    Resources,
    RestartCondition,
    RestartPolicy,
    Task,
    TaskState,
)
from swarmd.state.features import ORCHESTRATION
from swarmd.wire.control import CreateService, GetObject
from swarmd.wire.methods import SERVICE_CREATE, SERVICE_WHY, TASK_WHY
from tests.unit.manager.control_api.api_world import World, service_spec, task_of

PENDING = TaskState.PENDING


@pytest.fixture
def world() -> World:
    world = World()
    world.add_cluster()
    world.raise_feature_level(ORCHESTRATION)
    return world


def able(world: World, id: str = "w1", **description: Any) -> Node:
    """A node that takes tasks."""
    node = world.add_node(id, labels={"disk": "hdd"})
    node = replace(
        node,
        status=replace(node.status, confirmed=True, addr="10.0.0.7"),
        description=replace(node.description, **description),
    )
    world.store.write(lambda tx: tx.update(node))
    return node


def asking(id: str = "t", *, slot: int = 1, node: str = "", state: TaskState = PENDING, **spec: Any) -> Task:
    task = task_of(id, "s1", slot=slot, node=node, state=state)
    return replace(task, spec=replace(task.spec, **spec))


def reserving(**amounts: Any) -> ResourceRequirements:
    return ResourceRequirements(reservations=ResourceLimits(**amounts))


def published(*numbers: int) -> Endpoint:
    ports = tuple(
        PortConfig(target_port=80, published_port=number, publish_mode=PublishMode.HOST) for number in numbers
    )
    return Endpoint(ports=ports)


ROOMY = Resources(nano_cpus=2 * 10**9, memory_bytes=1 << 30, generic=(GenericResource(kind="gpu", names=("a", "b")),))


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({}, ("", "")),
        ({"resources": reserving(nano_cpus=10**9)}, ("", "")),
        ({"resources": reserving(nano_cpus=3 * 10**9 // 2)}, ("resources", "cpu: needs 1.5, 1 of 2 free")),
        (
            {"resources": reserving(nano_cpus=2 * 10**9, memory_bytes=2 << 30)},
            ("resources", "cpu: needs 2, 1 of 2 free; memory: needs 2 GiB, 1 GiB of 1 GiB free"),
        ),
        (
            {"resources": reserving(generic=(GenericResource(kind="gpu", amount=3),))},
            ("resources", "gpu: needs 3, 2 of 2 free"),
        ),
        (
            {"resources": reserving(generic=(GenericResource(kind="fpga", amount=1),))},
            ("resources", "fpga: needs 1, 0 of 0 free"),
        ),
        ({"log_driver": Driver(name="json-file:latest")}, ("", "")),
        ({"log_driver": Driver(name="syslog")}, ("plugin", "has not the log driver syslog")),
        (
            {"placement": Placement(constraints=("node.labels.disk == ssd",))},
            ("constraint", "node.labels.disk==ssd (has hdd)"),
        ),
        (
            {"placement": Placement(constraints=("node.labels.zone==a",))},
            ("constraint", "node.labels.zone==a (has none)"),
        ),
        (
            {"placement": Placement(constraints=("node.ip==10.1.0.0/16",))},
            ("constraint", "node.ip==10.1.0.0/16 (has 10.0.0.7)"),
        ),
        (
            {"placement": Placement(platforms=(Platform(os="linux", architecture="arm64"),))},
            ("platform", "needs linux/arm64, is linux/x86_64"),
        ),
        ({"placement": Placement(max_replicas=2)}, ("", "")),
        ({"placement": Placement(max_replicas=1)}, ("max_replicas", "has 1 of at most 1")),
    ],
)
def test_the_first_filter_that_turns_a_task_away(world: World, wanted: Any, said: tuple[str, str]) -> None:
    node = able(
        world,
        resources=ROOMY,
        platform=Platform(os="linux", architecture="x86_64"),
        plugins=(Plugin(type="Log", name="json-file"),),
        features=(ORCHESTRATION,),
    )
    there = asking("there", node="w1", state=TaskState.RUNNING, resources=reserving(nano_cpus=10**9))
    assert verdict(node, (there,), asking(slot=2, **wanted)) == said


@pytest.mark.parametrize(("numbers", "said"), [((81,), ""), ((80,), "port 80/tcp is taken by name-s1.1")])
def test_a_host_port_that_another_task_has(world: World, numbers: tuple[int, ...], said: str) -> None:
    there = replace(asking("there", node="w1", state=TaskState.RUNNING), endpoint=published(80, 443))
    gone = replace(asking("gone", node="w1", state=TaskState.FAILED), endpoint=published(81))
    asked = replace(asking(slot=2), endpoint=published(*numbers))
    assert verdict(able(world), (there, gone), asked)[1] == said


async def test_a_task_without_a_node_is_told_what_each_says_those_that_fit_first(world: World) -> None:
    able(world, "w1", resources=ROOMY)
    able(world, "w2")
    world.add_node("w3", availability=Availability.DRAIN)
    failure = PlacementFailure(nodes=3, fix="activate w3")
    task = asking(resources=reserving(nano_cpus=10**9))
    task = replace(task, status=replace(task.status, err="no suitable node (...)", unplaced=failure))
    world.add_tasks([task])
    told = await world.ask(TASK_WHY, GetObject(id="t"))
    assert told.reason == "is PENDING and has no node: no suitable node (...)"
    assert told.unplaced == failure
    assert [(one.node_name, one.filter) for one in told.nodes] == [
        ("host-w1", ""),
        ("host-w3", "ready"),
        ("host-w2", "resources"),
    ]
    assert told.nodes[1].detail == "drained"


async def test_a_task_bound_to_a_node_hears_of_that_one_alone(world: World) -> None:
    able(world, "w1")
    able(world, "w2")
    world.add_tasks([asking(slot=0, node="w2"), asking("lost", slot=0, node="w9")])
    assert [one.node_id for one in (await world.ask(TASK_WHY, GetObject(id="t"))).nodes] == ["w2"]
    assert (await world.ask(TASK_WHY, GetObject(id="lost"))).nodes == ()


async def test_what_one_reply_does_not_show_is_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(why, "NODES_MAX", 2)
    for number in range(5):
        able(world, f"w{number}")
    world.add_tasks([asking()])
    told = await world.ask(TASK_WHY, GetObject(id="t"))
    assert (len(told.nodes), told.nodes_left_out) == (2, 3)


async def test_a_task_that_ended_says_how(world: World) -> None:
    task = asking(node="w1", state=TaskState.FAILED)
    status = replace(task.status, err="task: non-zero exit (137)", container=ContainerStatus(exit_code=137))
    world.add_tasks([replace(task, status=status)])
    told = await world.ask(TASK_WHY, GetObject(id="t"))
    assert told.reason == "is FAILED with exit code 137: task: non-zero exit (137)"
    assert told.nodes == ()


async def test_a_service_names_what_holds_it_up_those_without_a_node_first(world: World) -> None:
    able(world, "w1")
    spec = replace(
        service_spec(replicas=4),
        task=replace(service_spec().task, restart=RestartPolicy(condition=RestartCondition.NONE)),
    )
    service = (await world.ask(SERVICE_CREATE, CreateService(spec=spec))).service

    def of(id: str, slot: int, state: TaskState, **fields: Any) -> Task:
        task = task_of(id, service.id, slot=slot, node="" if state < TaskState.ASSIGNED else "w1", state=state)
        return replace(task, spec=spec.task, spec_version=1, **fields)

    world.add_tasks(
        [
            of("runs", 1, TaskState.RUNNING),
            of("failed", 2, TaskState.FAILED, desired_state=TaskState.SHUTDOWN),
            of("waits", 3, PENDING),
            of("comes", 4, TaskState.PREPARING),
        ]
    )
    told = await world.ask(SERVICE_WHY, GetObject(id=service.id))
    assert told.reason == "1 of 4 running; 1 failed for good"
    assert [one.task.id for one in told.tasks] == ["waits", "failed", "comes"]
    assert [bool(one.nodes) for one in told.tasks] == [True, False, False]


async def test_a_service_with_nothing_amiss_has_nothing_to_tell(world: World) -> None:
    service = (await world.ask(SERVICE_CREATE, CreateService(spec=service_spec(replicas=0)))).service
    told = await world.ask(SERVICE_WHY, GetObject(id=service.id))
    assert (told.reason, told.tasks) == ("0 of 0 running", ())


@pytest.mark.parametrize("method", [TASK_WHY, SERVICE_WHY])
async def test_of_what_there_is_not_nothing_is_told(world: World, method: Any) -> None:
    with pytest.raises(NotFound):
        await world.ask(method, GetObject(id="nothing"))
    with pytest.raises(Invalid):
        await world.ask(method, GetObject(id=""))
