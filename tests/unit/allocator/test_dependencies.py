"""Services that wait for others at their start (reference orchestration 11.2)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from swarmd.allocator import admit
from swarmd.allocator.dependencies import waits_for
from swarmd.model import (
    ContainerSpec,
    DependencyCondition,
    Replicated,
    ReplicatedJob,
    ServiceDependency,
    ServiceSpec,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from swarmd.orchestrator.revision import created
from tests.unit.orchestrator.world import World

S = TaskState
D = DependencyCondition
TEMPLATE = TaskSpec(container=ContainerSpec(image="a"))


def swarm(condition: DependencyCondition, **db: Any) -> World:
    world = World()
    world.track()
    depends_on = (ServiceDependency(service="DB", condition=condition),)
    web = ServiceSpec(name="web", task=TEMPLATE, depends_on=depends_on)
    world.update(lambda tx: tx.create(created("web", web, tx.now)))
    if db:
        world.update(lambda tx: tx.create(created("db", ServiceSpec(name="db", task=TEMPLATE, **db), tx.now)))
    world.add_task(Task(id="w1", service_id="web", service_name="web", slot=1, spec=TEMPLATE))
    return world


def put(world: World, slot: int, state: TaskState, service: str = "db") -> None:
    task = Task(
        id=f"{service}{slot}{state.name}",
        service_id=service,
        service_name=service,
        slot=slot,
        node_id="n1",
        spec=TEMPLATE,
        status=TaskStatus(state=state),
    )
    world.add_task(task)


def reason(world: World) -> str:
    return world.update(lambda tx: waits_for(tx, world.service("web")))


def test_a_service_that_is_not_there_is_waited_for() -> None:
    world = swarm(D.STARTED)
    assert reason(world) == "waiting for service DB to exist"


@pytest.mark.parametrize(
    ("condition", "states", "expected"),
    [
        (D.STARTED, [], "waiting for service DB to be started"),
        (D.STARTED, [S.STARTING, S.STARTING], "waiting for service DB to be started"),
        (D.STARTED, [S.RUNNING], ""),
        (D.HEALTHY, [S.RUNNING], "waiting for service DB to be healthy"),
        (D.HEALTHY, [S.RUNNING, S.STARTING], "waiting for service DB to be healthy"),
        (D.HEALTHY, [S.RUNNING, S.RUNNING], ""),
        (D.COMPLETED, [S.RUNNING, S.COMPLETE], "waiting for service DB to complete"),
        (D.COMPLETED, [S.COMPLETE, S.COMPLETE], ""),
    ],
)
def test_what_each_condition_waits_for(condition: DependencyCondition, states: list[TaskState], expected: str) -> None:
    world = swarm(condition, mode=Replicated(replicas=2))
    for slot, state in enumerate(states, 1):
        put(world, slot, state)
    assert reason(world) == expected


def test_a_job_is_complete_after_as_many_completions() -> None:
    world = swarm(D.COMPLETED, mode=ReplicatedJob(total_completions=2))
    put(world, 1, S.COMPLETE)
    put(world, 2, S.FAILED)
    assert reason(world) == "waiting for service DB to complete"
    put(world, 2, S.COMPLETE)
    assert reason(world) == ""


def test_what_has_begun_does_not_wait_any_more() -> None:
    world = swarm(D.HEALTHY, mode=Replicated(replicas=1))
    put(world, 2, S.PENDING, service="web")
    assert reason(world) == ""


def test_the_task_is_told_and_passes_once_the_other_runs() -> None:
    world = swarm(D.STARTED, mode=Replicated(replicas=1))
    assert world.update(lambda tx: admit(tx, ["w1"])).waiting == ("w1",)
    task = world.state.task("w1")
    assert task is not None
    assert (task.status.state, task.status.err) == (S.NEW, "waiting for service DB to be started")
    index = world.state.index
    world.update(lambda tx: admit(tx, ["w1"]))
    assert world.state.index == index, "told once"
    put(world, 1, S.RUNNING)
    assert world.update(lambda tx: admit(tx, ["w1"])).passed == 1
    task = world.state.task("w1")
    assert task is not None
    assert (task.status.state, task.status.err) == (S.PENDING, "")


def test_ports_that_were_not_set_aside_are_at_the_gate() -> None:
    from swarmd.model import EndpointSpec, PortConfig

    world = World()
    world.track()
    spec = ServiceSpec(name="web", task=TEMPLATE, endpoint=EndpointSpec(ports=(PortConfig(target_port=80),)))
    world.update(lambda tx: tx.create(created("web", spec, tx.now)))
    world.add_task(Task(id="w1", service_id="web", service_name="web", slot=1, spec=TEMPLATE))
    assert world.update(lambda tx: admit(tx, ["w1"])).passed == 1
    task = world.state.task("w1")
    assert task is not None
    assert task.endpoint == world.service("web").endpoint
    assert task.endpoint is not None
    assert task.endpoint.ports[0].published_port == 30000
    taken = replace(
        spec, name="other", endpoint=EndpointSpec(ports=(PortConfig(target_port=80, published_port=30000),))
    )
    world.update(lambda tx: tx.create(created("other", taken, tx.now)))
    world.add_task(Task(id="o1", service_id="other", service_name="other", slot=1, spec=TEMPLATE))
    assert world.update(lambda tx: admit(tx, ["o1"])).waiting == ("o1",)
    task = world.state.task("o1")
    assert task is not None
    assert "already in use by service 'web'" in task.status.err
