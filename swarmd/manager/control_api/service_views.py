"""How a service is shown: its record, and what its tasks say of it, counted in one look at each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from swarmd.model import NodeState, Replicated, ReplicatedJob, Service, Task, TaskState
from swarmd.orchestrator.dirty import outdated_slots
from swarmd.orchestrator.global_services import Standing, is_global, standing_of_node
from swarmd.orchestrator.jobs import is_completed, iteration_of
from swarmd.orchestrator.restart import may_restart
from swarmd.orchestrator.revision import is_job
from swarmd.orchestrator.slots import Slot, slots_by_node, slots_of
from swarmd.state.store import State
from swarmd.wire.control import ServiceView


def service_view(state: State, service: Service) -> ServiceView:
    """The service and how it stands. Costs a look at each of its tasks; of a global one, also at each node."""
    slots, is_of_job = present_slots(state, service), is_job(service.spec)
    return ServiceView(
        service=service,
        running=sum(_runs(state, task) for slot in slots for task in (*slot.tasks, *slot.leaving)),
        desired=_desired(state, service, slots),
        completed=sum(is_completed(slot) for slot in slots) if is_of_job else 0,
        failed=sum(has_given_up(slot) for slot in slots),
        outdated=len(outdated_slots([slot for slot in slots if slot.is_occupied], service, state.node)),
    )


def present_slots(state: State, service: Service) -> Sequence[Slot]:
    """The service's slots; of a job's tasks those of its present iteration alone."""
    tasks: Iterable[Task] = state.tasks_of_service(service.id)
    if is_job(service.spec):
        iteration = iteration_of(service)
        tasks = [task for task in tasks if task.job_iteration == iteration]
    return tuple((slots_by_node(tasks) if is_global(service) else slots_of(tasks)).values())


def has_given_up(slot: Slot) -> bool:
    """Whether nothing is to run in the slot any more, because its last task failed and may not be replaced."""
    if slot.wanted or not slot.tasks or is_completed(slot):
        return False
    last = slot.tasks[-1]
    has_failed = last.status.state in (TaskState.FAILED, TaskState.REJECTED)
    return has_failed and not may_restart(last, slot.tasks[:-1])


def _desired(state: State, service: Service, slots: Sequence[Slot]) -> int:
    match service.spec.mode:
        case Replicated() as mode:
            return mode.replicas
        case ReplicatedJob() as mode:
            return mode.total_completions
    fit = {node.id for node in state.nodes() if standing_of_node(service, node) is Standing.FIT}
    return len(fit | {slot.node_id for slot in slots if slot.wanted or (is_job(service.spec) and slot.tasks)})


def _runs(state: State, task: Task) -> bool:
    if task.status.state is not TaskState.RUNNING:
        return False
    node = state.node(task.node_id)
    return node is not None and node.status.state is not NodeState.DOWN
