"""How a service is shown: its record, and what its tasks say of it, counted in one look at each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from swarmd.model import (
    Availability,
    Global,
    GlobalJob,
    Membership,
    Node,
    NodeState,
    Placement,
    Replicated,
    ReplicatedJob,
    Service,
    Task,
    TaskState,
)
from swarmd.orchestrator.dirty import admits, outdated_slots
from swarmd.orchestrator.facts import is_wanted
from swarmd.orchestrator.restart import may_restart
from swarmd.orchestrator.revision import is_job
from swarmd.orchestrator.slots import Slot
from swarmd.state.store import State
from swarmd.wire.control import ServiceView

_FAILED = (TaskState.FAILED, TaskState.REJECTED)


def service_view(state: State, service: Service) -> ServiceView:
    """The service and how it stands. Costs a look at each of its tasks; of a global one, also at each node."""
    tasks = present_tasks(service, state.tasks_of_service(service.id))
    slots = slots_by_key(tasks)
    shown = [slot for slot in slots if slot.tasks]
    return ServiceView(
        service=service,
        running=sum(_runs(state, task) for task in tasks),
        desired=_desired(state, service, shown),
        completed=sum(_has_completed(slot) for slot in shown) if is_job(service.spec) else 0,
        failed=sum(has_given_up(slot) for slot in shown),
        outdated=len(outdated_slots([slot for slot in shown if slot.is_occupied], service, state.node)),
    )


def present_tasks(service: Service, tasks: Iterable[Task]) -> Sequence[Task]:
    """The tasks that count: of a job those of its present iteration, else all."""
    if not is_job(service.spec) or service.job_status is None:
        return tuple(tasks)
    iteration = service.job_status.job_iteration
    return [task for task in tasks if task.job_iteration == iteration]


def slots_by_key(tasks: Iterable[Task]) -> list[Slot]:
    """The slots of a service of any mode: by number, or by node where there are no numbers. Tasks in order of
    creation."""
    slots: dict[int | str, Slot] = {}
    for task in tasks:
        key = task.slot or task.node_id
        slot = slots.get(key)
        if slot is None:
            slot = slots[key] = Slot(task.slot, "" if task.slot else task.node_id)
        slot.add(task)
    return list(slots.values())


def has_given_up(slot: Slot) -> bool:
    """Whether nothing is to run in the slot any more, because its last task failed and may not be replaced."""
    if slot.wanted and not all(task.status.state in _FAILED for task in slot.wanted):
        return False
    last = slot.representative
    return last is not None and last.status.state in _FAILED and not may_restart(last, slot.earlier_than(last))


def is_for(node: Node, placement: Placement) -> bool:
    """Whether a global service or job has a task on the node, or will: it takes tasks and is admitted."""
    return (
        node.spec.membership is Membership.ACCEPTED
        and node.spec.availability is Availability.ACTIVE
        and node.status.state is not NodeState.DOWN
        and admits(node, placement)
    )


def _desired(state: State, service: Service, slots: Sequence[Slot]) -> int:
    mode, placement = service.spec.mode, service.spec.task.placement
    match mode:
        case Replicated():
            return mode.replicas
        case ReplicatedJob():
            return mode.total_completions
        case Global():
            wanted = {slot.node_id for slot in slots if any(is_wanted(task) for task in slot.wanted)}
            return len(wanted | {node.id for node in state.nodes() if is_for(node, placement)})
        case GlobalJob():
            since = service.job_status.last_execution if service.job_status is not None else 0.0
            nodes = {
                node.id
                for node in state.nodes()
                if (mode.follow_nodes or node.meta.created_at <= since) and is_for(node, placement)
            }
            return len(nodes | {slot.node_id for slot in slots if slot.node_id})


def _runs(state: State, task: Task) -> bool:
    if task.status.state is not TaskState.RUNNING:
        return False
    node = state.node(task.node_id)
    return node is not None and node.status.state is not NodeState.DOWN


def _has_completed(slot: Slot) -> bool:
    return any(task.status.state is TaskState.COMPLETE for task in slot.tasks)
