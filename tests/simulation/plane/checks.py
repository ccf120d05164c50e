"""What must hold: after every entry, and once everything has been calm for long enough."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from typing import Final

import trio

from swarmd.allocator import is_settled
from swarmd.model import (
    Availability,
    Global,
    GlobalJob,
    Node,
    NodeState,
    PublishMode,
    Replicated,
    ReplicatedJob,
    Service,
    Task,
    TaskState,
    UpdateState,
)
from swarmd.orchestrator.facts import evicts, was_turned_out
from swarmd.orchestrator.global_services import Standing, standing_of_node
from swarmd.orchestrator.jobs import iteration_of, job_progress
from swarmd.state.command import Table
from swarmd.state.keys import port_key, ports_of
from swarmd.state.store import State
from swarmd.state.watch import Route, Subscription
from tests.simulation.plane.machines import Machine

S = TaskState

STOP_WAIT_S: Final = 60.0
"""How long a replacement waits for its predecessor (`orchestrator.restart`)."""


class Checks:
    """After every entry, on what it changed."""

    def __init__(self, state: State, machines: dict[str, Machine]) -> None:
        self._subscription: Subscription = state.subscribe((Route(Table.TASK),), wake=lambda: None)
        self._machines = machines

    def after_entry(self, state: State) -> None:
        """Raises `AssertionError` if a task's record says what none may."""
        for event in self._subscription.take():
            old, new = event.old, event.new
            if isinstance(new, Task):
                _check_task(state, old if isinstance(old, Task) else None, new)
            elif isinstance(old, Task):
                self._check_deletion(state, old)

    def _check_deletion(self, state: State, task: Task) -> None:
        """A record goes only once nothing of it can run."""
        never_ran = task.status.state < S.ASSIGNED
        assert task.status.state.is_terminal or never_ran, f"{task.id} was deleted while {task.status.state.name}"


def _check_task(state: State, old: Task | None, new: Task) -> None:
    observed = new.status.state
    assert observed is not S.REMOVE, f"{new.id} was observed REMOVE"
    if S.ASSIGNED <= observed < S.REJECTED:
        assert new.node_id, f"{new.id} is {observed.name} on no node"
    if old is None:
        assert observed is S.NEW, f"{new.id} was made {observed.name}"
        return
    assert observed >= old.status.state, f"{new.id} went back from {old.status.state.name} to {observed.name}"
    assert new.desired_state >= old.desired_state, f"{new.id} is wanted less than before"
    assert old.node_id in ("", new.node_id), f"{new.id} moved from {old.node_id} to {new.node_id}"
    if old.status.state < S.ASSIGNED and observed is S.ASSIGNED:
        _check_placement(state, new)


def _check_placement(state: State, task: Task) -> None:
    node = state.node(task.node_id)
    assert node is not None, f"{task.id} was placed on {task.node_id}, which does not exist"
    assert node.status.state is NodeState.READY, f"{task.id} was placed on {task.node_id}"
    assert node.spec.availability is Availability.ACTIVE, f"{task.id} was placed on a node that takes none"
    held = [other for other in state.tasks_of_node(node.id) if S.ASSIGNED <= other.status.state <= S.RUNNING]
    taken = Counter(key for other in held for key in _host_ports(other))
    assert not [key for key in _host_ports(task) if taken[key] > 1], f"{task.id} meets another at a port of {node.id}"
    memory = sum(other.spec.resources.reservations.memory_bytes for other in held)
    asked = task.spec.resources.reservations.memory_bytes
    assert not asked or memory <= node.description.resources.memory_bytes, f"{node.id} is overcommitted by {task.id}"


def _host_ports(task: Task) -> tuple[str, ...]:
    ports = task.endpoint.ports if task.endpoint is not None else ()
    return tuple(port_key(port) for port in ports if port.publish_mode is PublishMode.HOST and port.published_port)


def _check_ports(state: State) -> None:
    """No two services have one port, and all have what they ask for."""
    holders = Counter(key for service in state.services() for key in ports_of(service) if not key.startswith("host:"))
    assert not [key for key, count in holders.items() if count > 1], holders
    for service in state.services():
        assert is_settled(service), f"{service.spec.name} lacks its ports"


def check_programs(state: State, machines: dict[str, Machine], starts_first: Collection[str]) -> None:
    """No two programs of one slot run side by side, save where one cannot be reached or takes too long to stop.

    Services (names) that ever were updated start-first are left out.
    """
    now = trio.current_time()
    running: dict[tuple[str, int | str], list[Task]] = defaultdict(list)
    for machine in machines.values():
        if not machine.is_heard or now - machine.reachable_since < STOP_WAIT_S:
            continue
        for local in machine.tasks.values():
            if local.is_running:
                task = state.task(local.task.id) or local.task
                if task.service_name not in starts_first and not was_turned_out(task):
                    running[task.service_id, task.slot or task.node_id].append(task)
    for (service_id, slot), tasks in running.items():
        ids = [task.id for task in tasks]
        assert len(tasks) < 2, f"slot {slot} of {service_id} runs {ids} at the same time"


def check_converged(state: State, *, history: int) -> None:
    """Everything is as the specs say, and explained where it cannot be."""
    _check_ports(state)
    slots: Counter[tuple[str, int | str]] = Counter()
    for task in state.tasks():
        slots[task.service_id, task.slot or task.node_id] += 1
        assert state.service(task.service_id) is not None, f"{task.id} belongs to no service"
        if task.desired_state > S.RUNNING and not evicts(state.node(task.node_id)):
            assert task.status.state.is_terminal or task.status.state < S.ASSIGNED, f"{task.id} still runs"
    for (service_id, slot), count in slots.items():
        assert count <= history + 1, f"slot {slot} of {service_id} keeps {count} records"
    for service in state.services():
        status = service.update_status
        assert status is None or status.state is UpdateState.COMPLETED, f"{service.spec.name}: {status}"
        match service.spec.mode:
            case Replicated(replicas=replicas):
                _check_replicated(state, service, replicas)
            case Global():
                _check_global(state, service)
            case ReplicatedJob(total_completions=total):
                progress = job_progress(service, state.tasks_of_service(service.id))
                assert (progress.completed, progress.active) == (total, 0), f"{service.spec.name}: {progress}"
            case GlobalJob():
                _check_global_job(state, service)


def _check_global(state: State, service: Service) -> None:
    wanted = [task for task in state.tasks_of_service(service.id) if task.desired_state <= S.RUNNING]
    fit = [node.id for node in state.nodes() if standing_of_node(service, node) is Standing.FIT]
    assert sorted(task.node_id for task in wanted) == sorted(fit), f"{service.spec.name} on {fit}: {wanted}"
    for task in wanted:
        assert task.spec == service.spec.task, f"{service.spec.name}: {task.id} is of an older template"
        assert task.status.state is S.RUNNING, f"{service.spec.name}: {task.id} is {task.status.state.name}"


def _check_global_job(state: State, service: Service) -> None:
    tasks = [task for task in state.tasks_of_service(service.id) if task.job_iteration == iteration_of(service)]
    completed = {task.node_id for task in tasks if task.status.state is S.COMPLETE}
    fit = {node.id for node in state.nodes() if standing_of_node(service, node) is Standing.FIT}
    assert fit <= completed, f"{service.spec.name} has not completed on {fit - completed}"


def _check_replicated(state: State, service: Service, replicas: int) -> None:
    wanted = [task for task in state.tasks_of_service(service.id) if task.desired_state <= S.RUNNING]
    running = [task for task in wanted if task.status.state is S.RUNNING]
    summary = f"{service.spec.name}: {len(running)} of {replicas} run, {len(wanted)} wanted"
    assert len(wanted) == replicas, summary
    assert len({task.slot for task in wanted}) == replicas, summary
    for task in wanted:
        node = state.node(task.node_id)
        assert not task.node_id or not evicts(node), f"{summary}; {task.id} is wanted on {task.node_id}, which evicts"
        assert task.spec == service.spec.task, f"{summary}; {task.id} is of an older template"
        if task.status.state is not S.RUNNING:
            assert task.status.state is S.PENDING, f"{summary}; {task.id} is {task.status.state.name}"
            assert task.status.err, f"{summary}; {task.id} waits without a reason"
            assert not any(_could_take(state, node, task) for node in state.nodes()), f"{task.id} could be placed"


def _could_take(state: State, node: Node, task: Task) -> bool:
    if node.status.state is not NodeState.READY or node.spec.availability is not Availability.ACTIVE:
        return False
    held = [other for other in state.tasks_of_node(node.id) if S.ASSIGNED <= other.status.state <= S.RUNNING]
    memory = sum(other.spec.resources.reservations.memory_bytes for other in held)
    return memory + task.spec.resources.reservations.memory_bytes <= node.description.resources.memory_bytes
