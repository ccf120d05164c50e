"""What a reader is told of a node is what the scheduler's masks say of it: the same filter, or none."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from swarmd.manager.control_api.node_verdicts import verdict
from swarmd.model import (
    Availability,
    ContainerSpec,
    Driver,
    Endpoint,
    GenericResource,
    Node,
    NodeDescription,
    NodeSpec,
    NodeState,
    NodeStatus,
    Placement,
    Platform,
    Plugin,
    PortConfig,
    PublishMode,
    ResourceLimits,
    ResourceRequirements,
    Resources,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from swarmd.scheduler.explain import turned_away
from swarmd.scheduler.nodes import NodeTable
from swarmd.scheduler.profile import Profiles
from swarmd.state.features import ORCHESTRATION

CPU, GIB = 10**9, 1 << 30


def some(*values: Any) -> Any:
    return st.sampled_from(values)


NODES = st.builds(
    lambda availability, state, zone, cpus, gpus, platform, loggers, features: Node(
        id="n1",
        spec=NodeSpec(availability=availability, labels={"zone": zone} if zone else {}),
        status=NodeStatus(state=state, confirmed=True, addr="10.0.0.1"),
        description=NodeDescription(
            hostname="n1",
            platform=platform,
            resources=Resources(nano_cpus=cpus * CPU, memory_bytes=4 * GIB, generic=gpus),
            plugins=tuple(Plugin(type="Log", name=name) for name in loggers),
            features=features,
        ),
    ),
    some(Availability.ACTIVE, Availability.ACTIVE, Availability.PAUSE),
    some(NodeState.READY, NodeState.READY, NodeState.READY, NodeState.DOWN),
    some("", "a", "B"),
    some(1, 2, 4),
    some((), (GenericResource(kind="gpu", amount=2),), (GenericResource(kind="gpu", names=("x", "y", "z")),)),
    some(Platform(os="linux", architecture="x86_64"), Platform()),
    some((), ("json-file",), ("syslog:latest", "json-file")),
    some((ORCHESTRATION,), (ORCHESTRATION,), ()),
)

SPECS = st.builds(
    lambda cpus, memory, gpus, constraints, platforms, limit, driver: TaskSpec(
        container=ContainerSpec(image="x"),
        resources=ResourceRequirements(
            reservations=ResourceLimits(
                nano_cpus=cpus * CPU,
                memory_bytes=memory * GIB,
                generic=(GenericResource(kind="gpu", amount=gpus),) if gpus else (),
            )
        ),
        placement=Placement(constraints=constraints, platforms=platforms, max_replicas=limit),
        log_driver=driver,
    ),
    some(0, 0, 1, 2),
    some(0, 0, 1, 5),
    some(0, 0, 1, 2),
    some((), ("node.labels.zone==b",), ("node.labels.zone != a", "node.ip==10.0.0.0/8"), ("node.nonsense==1",), ("?",)),
    some((), (Platform(os="linux"),), (Platform(architecture="amd64"), Platform(os="windows"))),
    some(0, 0, 1, 2),
    some(None, None, Driver(name="none"), Driver(name="syslog"), Driver(name="json-file:latest")),
)


def ports(numbers: tuple[int, ...]) -> Endpoint | None:
    host = PublishMode.HOST
    published = tuple(PortConfig(target_port=80, published_port=number, publish_mode=host) for number in numbers)
    return Endpoint(ports=published) if published else None


TASKS = st.builds(
    lambda spec, service, state, desired, numbers: Task(
        id="",
        service_id=service,
        service_name=service,
        slot=1,
        node_id="n1",
        spec=spec,
        status=TaskStatus(state=state),
        desired_state=desired,
        endpoint=ports(numbers),
    ),
    SPECS,
    some("s1", "s1", "s2"),
    some(TaskState.PENDING, TaskState.ASSIGNED, TaskState.RUNNING, TaskState.RUNNING, TaskState.FAILED),
    some(TaskState.RUNNING, TaskState.COMPLETE, TaskState.SHUTDOWN),
    some((), (80,), (0, 443)),
)


@settings(max_examples=400, deadline=None)
@given(node=NODES, others=st.lists(TASKS, max_size=4), asking=TASKS)
def test_the_same_filter_speaks(node: Node, others: list[Task], asking: Task) -> None:
    there = tuple(
        replace(task, id=f"t{number}", assigned_generic_resources=taken(node, task))
        for number, task in enumerate(others)
    )
    task = replace(asking, id="new", node_id="", service_id="s1", status=TaskStatus(state=TaskState.PENDING))
    table, profiles = NodeTable([node]), Profiles()
    info = table.ensure("n1")
    for other in there:
        if TaskState.ASSIGNED <= other.status.state <= TaskState.RUNNING:
            active = other.desired_state <= TaskState.COMPLETE
            charge(table, info, profiles, other, is_active=active)
    away = turned_away(table, profiles.of(task), task.service_id)
    assert verdict(node, there, task)[0] == (away[0][0].name if away else "")


def charge(table: NodeTable, info: Any, profiles: Profiles, task: Task, *, is_active: bool) -> None:
    generic = task.assigned_generic_resources
    table.charge(info, profiles.of(task), task.service_id, is_active=is_active, generic=generic)


def taken(node: Node, task: Task) -> tuple[GenericResource, ...]:
    """The first of the node's, whoever else has them."""
    for one in node.description.resources.generic:
        for wanted in task.spec.resources.reservations.generic:
            names = one.names[: wanted.amount]
            return (GenericResource(kind="gpu", names=names) if names else replace(wanted, amount=1),)
    return ()


def test_members_that_are_gone_take_nothing_of_those_that_are_there() -> None:
    node = Node(
        id="n1",
        status=NodeStatus(state=NodeState.READY, confirmed=True),
        description=NodeDescription(
            hostname="n1",
            resources=Resources(generic=(GenericResource(kind="gpu", names=("x", "y")),)),
            features=(ORCHESTRATION,),
        ),
    )
    wanted = ResourceLimits(generic=(GenericResource(kind="gpu", amount=1),))
    spec = TaskSpec(container=ContainerSpec(image="x"), resources=ResourceRequirements(reservations=wanted))
    running = TaskStatus(state=TaskState.RUNNING)
    held = [
        Task(
            id=f"t{name}",
            node_id="n1",
            spec=spec,
            status=running,
            assigned_generic_resources=(GenericResource(kind="gpu", names=(name,)),),
        )
        for name in ("old1", "old2", "x")
    ]
    asking = Task(id="new", spec=spec)
    assert verdict(node, tuple(held), asking) == ("", "")
    held[0] = replace(held[0], assigned_generic_resources=(GenericResource(kind="gpu", names=("y",)),))
    assert verdict(node, tuple(held), asking) == ("resources", "gpu: needs 1, 0 of 2 free")
