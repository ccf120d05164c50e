"""Which changes of a spec replace tasks (reference orchestration 2.6, scenarios 39 and 49)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from swarmd.model import (
    ContainerSpec,
    Driver,
    Endpoint,
    EndpointSpec,
    Node,
    NodeDescription,
    NodeSpec,
    Placement,
    PlacementPreference,
    PlacementStrategy,
    Platform,
    PortConfig,
    PublishMode,
    Service,
    ServiceSpec,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from swarmd.orchestrator.dirty import is_outdated

NODE = Node(
    id="n1",
    spec=NodeSpec(labels={"zone": "a"}),
    description=NodeDescription(platform=Platform(architecture="x86_64", os="linux")),
)
SPEC = TaskSpec(container=ContainerSpec(image="a"))
HOST_PORT = PortConfig(target_port=80, published_port=8080, publish_mode=PublishMode.HOST)
INGRESS_PORT = PortConfig(target_port=80, published_port=30000)


def outdated(changed: TaskSpec, *, ports: tuple[PortConfig, ...] = (), node_id: str = "n1", version: int = 2) -> bool:
    service = Service(
        id="s", spec=ServiceSpec(name="s", task=changed, endpoint=EndpointSpec(ports=ports)), spec_version=version
    )
    running = TaskStatus(state=TaskState.RUNNING)
    task = Task(id="t", service_id="s", slot=1, node_id=node_id, spec=SPEC, spec_version=1, status=running)
    return is_outdated(task, service, {"n1": NODE}.get)


def placed(**placement: Any) -> TaskSpec:
    return replace(SPEC, placement=Placement(**placement))


def test_equal_versions_are_equal_whatever_they_say() -> None:
    assert not outdated(replace(SPEC, force_update=1), version=1)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (SPEC, False),
        (replace(SPEC, container=ContainerSpec(image="b")), True),
        (replace(SPEC, force_update=1), True),
        (replace(SPEC, log_driver=Driver(name="syslog")), True),
        (placed(constraints=("node.labels.zone==a",)), False),
        (placed(constraints=("node.labels.zone==b",)), True),
        (placed(platforms=(Platform(architecture="amd64", os="linux"),)), False),
        (placed(platforms=(Platform(architecture="arm64"),)), True),
        (placed(preferences=(PlacementPreference(spread="node.labels.zone"),)), False),
        (placed(strategy=PlacementStrategy.BINPACK), False),
        (placed(max_replicas=1), False),
        (replace(placed(constraints=("node.labels.zone==a",)), force_update=1), True),
    ],
)
def test_only_what_the_task_is_or_where_it_may_not_stay_replaces_it(changed: TaskSpec, *, expected: bool) -> None:
    assert outdated(changed) is expected


@pytest.mark.parametrize("node_id", ["", "gone"])
def test_a_task_on_no_node_meets_no_new_constraint(node_id: str) -> None:
    assert outdated(placed(constraints=("node.labels.zone==a",)), node_id=node_id)
    assert not outdated(placed(max_replicas=2), node_id=node_id)


def test_ports_of_the_node_reach_running_tasks_also_together_with_a_placement_that_does_not() -> None:
    assert outdated(SPEC, ports=(HOST_PORT,))
    assert outdated(placed(constraints=("node.labels.zone==a",)), ports=(HOST_PORT,))
    assert not outdated(SPEC, ports=(INGRESS_PORT,)), "the swarm carries these"


def test_a_task_that_has_not_passed_the_allocator_gets_the_new_ports_there() -> None:
    service = Service(
        id="s", spec=ServiceSpec(name="s", task=SPEC, endpoint=EndpointSpec(ports=(HOST_PORT,))), spec_version=2
    )
    new = Task(id="t", service_id="s", slot=1, spec=SPEC, spec_version=1)
    assert not is_outdated(new, service, lambda _: None)
    given = replace(new, status=TaskStatus(state=TaskState.PENDING), endpoint=Endpoint(spec=service.spec.endpoint))
    assert not is_outdated(given, service, lambda _: None)
