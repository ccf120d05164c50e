"""Which log driver a new task gets (reference orchestration, scenario 48)."""

from __future__ import annotations

from msgspec.structs import replace

from swarmd.model import ContainerSpec, Driver, TaskDefaults
from tests.unit.orchestrator.world import World

SYSLOG, JOURNALD = Driver(name="syslog", options={"tag": "x"}), Driver(name="journald")


def set_default(world: World, driver: Driver | None) -> None:
    cluster = world.state.cluster()
    assert cluster is not None
    spec = replace(cluster.spec, task_defaults=TaskDefaults(log_driver=driver))
    world.update(lambda tx: tx.update(replace(cluster, spec=spec)))


def drivers(world: World) -> set[tuple[str, str]]:
    """(of the spec, of the task) of what runs."""
    found = [(task.spec.log_driver, task.log_driver) for task in world.running()]
    return {(own.name if own else "", given.name if given else "") for own, given in found}


def test_the_services_own_wins_and_the_swarms_fills_in_for_new_tasks() -> None:
    world = World()
    world.track()
    world.add_node("n1")
    world.add_service(replicas=2)
    world.settle()
    assert drivers(world) == {("", "")}
    before = {task.id for task in world.running()}
    set_default(world, SYSLOG)
    world.settle()
    assert {task.id for task in world.running()} == before, "a default restarts nothing"
    world.edit(lambda spec: replace(spec, task=replace(spec.task, container=ContainerSpec(image="b"))))
    world.settle()
    assert drivers(world) == {("", "syslog")}
    world.edit(lambda spec: replace(spec, task=replace(spec.task, log_driver=JOURNALD)))
    world.settle()
    assert drivers(world) == {("journald", "")}
