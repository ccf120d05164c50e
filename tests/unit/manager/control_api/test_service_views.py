"""How services of every mode stand, and what is done with them beside create and update."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from swarmd.errors import Conflict, FailedPrecondition, Invalid, NotFound
from swarmd.manager.control_api.service_views import service_view
from swarmd.model import (
    Availability,
    Global,
    GlobalJob,
    JobStatus,
    Membership,
    Mode,
    NodeState,
    Placement,
    Replicated,
    ReplicatedJob,
    RestartCondition,
    RestartPolicy,
    Service,
    ServiceSpec,
    Task,
    TaskState,
    UpdateState,
)
from swarmd.state.features import ORCHESTRATION
from swarmd.state.transaction import Transaction
from swarmd.wire.control import CreateService, ServiceView, UpdateService
from swarmd.wire.methods import SERVICE_CREATE, SERVICE_ROLLBACK, SERVICE_UPDATE
from swarmd.wire.orchestration import RollbackService
from tests.unit.manager.control_api.api_world import World, service_spec, task_of
from tests.unit.manager.local_store import EPOCH

RUNNING, COMPLETE, FAILED = TaskState.RUNNING, TaskState.COMPLETE, TaskState.FAILED


@pytest.fixture
def world() -> World:
    world = World()
    world.add_cluster()
    world.raise_feature_level(ORCHESTRATION)
    return world


def store_service(world: World, mode: Mode, *, iteration: int = 0, **task: Any) -> Service:
    """A service as if it had been accepted, whatever may be asked for at present."""
    spec = replace(service_spec(), mode=mode)
    spec = replace(spec, task=replace(spec.task, **task))
    job = (
        JobStatus(job_iteration=iteration, last_execution=EPOCH)
        if isinstance(mode, ReplicatedJob | GlobalJob)
        else None
    )
    service = Service(id="s1", spec=spec, spec_version=1, job_status=job)
    world.store.create(service)
    return service


def put(world: World, service: Service, id: str, *, state: TaskState = RUNNING, **fields: Any) -> Task:
    task = replace(task_of(id, service.id, state=state), spec=service.spec.task, spec_version=service.spec_version)
    task = replace(task, **fields)
    world.add_tasks([task])
    return task


def view_of(world: World) -> ServiceView:
    service = world.store.state.service("s1")
    assert service is not None
    return service_view(world.store.state, service)


def test_a_replicated_service_counts_what_runs_on_nodes_that_are_up(world: World) -> None:
    world.add_node("w1")
    world.add_node("w2", state=NodeState.DOWN)
    service = store_service(world, Replicated(replicas=4))
    put(world, service, "a", slot=1, node_id="w1")
    put(world, service, "b", slot=2, node_id="w2")
    put(world, service, "c", slot=3, node_id="gone")
    view = view_of(world)
    assert (view.running, view.desired, view.completed, view.failed, view.outdated) == (1, 4, 0, 0, 0)


def test_slots_of_an_older_template_are_outdated_and_counted_once(world: World) -> None:
    world.add_node("w1")
    service = store_service(world, Replicated(replicas=2))
    old = replace(service.spec.task, container=replace(service.spec.task.container, image="app:0"))
    put(world, service, "a", slot=1, node_id="w1", spec=old, spec_version=0)
    put(
        world,
        service,
        "b",
        slot=2,
        node_id="w1",
        spec=old,
        spec_version=0,
        state=FAILED,
        desired_state=TaskState.SHUTDOWN,
    )
    put(world, service, "c", slot=2, node_id="w1")
    assert view_of(world).outdated == 1


def test_a_slot_that_failed_for_good_is_counted_and_one_that_will_be_replaced_is_not(world: World) -> None:
    service = store_service(
        world, Replicated(replicas=2), restart=RestartPolicy(condition=RestartCondition.ON_FAILURE, max_attempts=1)
    )
    stopped = {"state": FAILED, "desired_state": TaskState.SHUTDOWN}
    put(world, service, "a1", slot=1, **stopped)
    put(world, service, "a2", slot=1, **stopped)
    put(world, service, "b1", slot=2, **stopped)
    assert view_of(world).failed == 1


def test_a_global_service_is_for_the_nodes_that_take_and_admit_it(world: World) -> None:
    world.add_node("w1", labels={"zone": "a"})
    world.add_node("w2", labels={"zone": "b"})
    world.add_node("w3", labels={"zone": "a"}, state=NodeState.DOWN)
    world.add_node("w4", labels={"zone": "a"}, availability=Availability.DRAIN)
    world.add_node("w5", labels={"zone": "a"}, availability=Availability.PAUSE)
    world.add_node("w6", labels={"zone": "a"}, availability=Availability.PAUSE)
    world.add_node("w7", labels={"zone": "a"}, membership=Membership.PENDING)
    service = store_service(world, Global(), placement=Placement(constraints=("node.labels.zone==a",)))
    put(world, service, "a", slot=0, node_id="w1")
    put(world, service, "b", slot=0, node_id="w6")
    view = view_of(world)
    assert (view.running, view.desired) == (2, 2), "w1, and the paused w6, whose task stays"


def test_a_replicated_job_counts_its_present_iteration_alone(world: World) -> None:
    world.add_node("w1")
    service = store_service(world, ReplicatedJob(max_concurrent=2, total_completions=5), iteration=1)
    put(world, service, "old", slot=1, node_id="w1", state=COMPLETE)
    for id, slot, state in (("a", 1, COMPLETE), ("b", 2, RUNNING), ("c", 3, COMPLETE), ("c2", 3, COMPLETE)):
        put(world, service, id, slot=slot, node_id="w1", state=state, desired_state=COMPLETE, job_iteration=1)
    view = view_of(world)
    assert (view.completed, view.desired, view.running, view.outdated) == (2, 5, 1, 0)


@pytest.mark.parametrize(("follows", "desired"), [(False, 2), (True, 3)])
def test_a_global_job_is_for_the_nodes_of_its_beginning(world: World, follows: bool, desired: int) -> None:
    world.add_node("w1")
    world.add_node("w2")
    service = store_service(world, GlobalJob(follow_nodes=follows))

    def later(tx: Transaction) -> None:
        node = tx.node("w2")
        assert node is not None
        tx.create(replace(node, id="w3"))

    tx = world.store.state.begin(EPOCH + 60, world.store.rng)
    later(tx)
    world.store.apply(tx.command(world.store.commands[-1].id.__class__(1, b"x" * 16, 9_999), actor="test"))
    put(world, service, "a", slot=0, node_id="w1", state=COMPLETE)
    view = view_of(world)
    assert (view.completed, view.desired) == (1, desired)


# -- rollback ----------------------------------------------------------------------------------------------------------
async def created(world: World, spec: ServiceSpec | None = None) -> Service:
    return (await world.ask(SERVICE_CREATE, CreateService(spec=spec or service_spec()))).service


async def test_rollback_exchanges_the_specs_and_two_of_them_lead_back(world: World) -> None:
    service = await created(world)
    await world.ask(SERVICE_UPDATE, UpdateService(id=service.id, spec=service_spec(image="app:2")))
    back = (await world.ask(SERVICE_ROLLBACK, RollbackService(id=service.id, spec_version=2))).service
    assert (back.spec, back.spec_version) == (service_spec(), 3)
    assert back.previous_spec == service_spec(image="app:2")
    assert back.update_status is not None
    assert back.update_status.state is UpdateState.ROLLBACK_STARTED
    assert back.update_status.message == "manually requested rollback"
    forth = (await world.ask(SERVICE_ROLLBACK, RollbackService(id=service.id))).service
    assert (forth.spec, forth.spec_version) == (service_spec(image="app:2"), 4)


async def test_rollback_that_is_refused_changes_nothing(world: World) -> None:
    service = await created(world)
    before = world.store.state.digest
    with pytest.raises(FailedPrecondition, match="does not have a previous spec"):
        await world.ask(SERVICE_ROLLBACK, RollbackService(id=service.id))
    with pytest.raises(Conflict, match="at version 1, not 7"):
        await world.ask(SERVICE_ROLLBACK, RollbackService(id=service.id, spec_version=7))
    with pytest.raises(NotFound):
        await world.ask(SERVICE_ROLLBACK, RollbackService(id="nothing"))
    with pytest.raises(Invalid):
        await world.ask(SERVICE_ROLLBACK, RollbackService(id=""))
    assert world.store.state.digest == before


async def test_a_retried_rollback_is_answered_not_repeated(world: World) -> None:
    service = await created(world)
    await world.ask(SERVICE_UPDATE, UpdateService(id=service.id, spec=service_spec(image="app:2")))
    request = RollbackService(id=service.id)
    first = await world.ask(SERVICE_ROLLBACK, request, key=b"k")
    again = await world.ask(SERVICE_ROLLBACK, request, key=b"k")
    assert first.service.spec == again.service.spec == service_spec()


async def test_an_update_of_the_mode_is_refused(world: World) -> None:
    service = store_service(world, Global())
    with pytest.raises(Exception, match="service mode change is not allowed"):
        await world.ask(SERVICE_UPDATE, UpdateService(id=service.id, spec=service_spec()))
