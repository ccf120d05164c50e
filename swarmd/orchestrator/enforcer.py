"""Which tasks must leave a node that changed under them (reference orchestration 6.3, 11.1; SwarmKit
`orchestrator/constraintenforcer`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from msgspec.structs import replace

from swarmd.model import Availability, Node, Placement, Task, TaskState, TaskStatus
from swarmd.orchestrator.dirty import admits
from swarmd.orchestrator.facts import ENFORCED_MESSAGE
from swarmd.state.batch import BATCH_BYTES_MAX, CHANGES_MAX
from swarmd.state.transaction import Transaction

ENFORCED_ERROR = "assigned node no longer meets constraints"


def enforce(tx: Transaction, node_id: str) -> float | None:
    """Reject, through `tx`, what the node may not or cannot run any more. Their desired states stay, so that the
    orchestrator replaces them. Only an ACTIVE node is looked at: PAUSE keeps what runs, DRAIN evicts all of it anyway.

    Returns when to look again: `tx.now` if the transaction is as large as one should be, else None.
    """
    node = tx.node(node_id, unchecked=True)
    if node is None or node.spec.availability is not Availability.ACTIVE:
        return None
    placements: dict[str, Placement] = {}

    def placement_of(task: Task) -> Placement:
        """The service's rule, so that it holds for tasks of older specs as well; its own if it has no service."""
        known = placements.get(task.service_id)
        if known is None:
            service = tx.service(task.service_id, unchecked=True) if task.service_id else None
            if service is None:
                return task.spec.placement
            known = placements[task.service_id] = service.spec.task.placement
        return known

    for task in misplaced(node, tx.tasks_of_node(node_id, unchecked=True), placement_of):
        if tx.changes_count >= CHANGES_MAX or tx.bytes_estimate >= BATCH_BYTES_MAX:
            return tx.now
        tx.node(node_id)  # recorded, with the rule: what follows relies on them
        tx.service(task.service_id)
        tx.report("", task.id, _rejected(task.status, tx.now))
    return None


def misplaced(node: Node, tasks: Iterable[Task], placement_of: Callable[[Task], Placement]) -> list[Task]:
    """The tasks that must go, in the order in which that was found: those that the constraints or platforms rule out,
    those whose generic resources are gone, then as many as reserve more than there is of memory, CPU or a kind:
    the largest reservation first, of equal ones the newest.

    A node that says neither its memory nor its CPU is not held to them: its engine may just be starting.
    """
    present = [task for task in tasks if _counts(task)]
    gone: list[Task] = []

    def turn_out(victims: Iterable[Task]) -> None:
        nonlocal present
        gone.extend(victims)
        ids = {task.id for task in gone}
        present = [task for task in present if task.id not in ids]

    turn_out([task for task in present if not admits(node, placement_of(task)) or not _has_generic(node, task)])
    resources = node.description.resources
    if resources.memory_bytes or resources.nano_cpus:
        turn_out(_beyond(present, resources.memory_bytes, lambda task: task.spec.resources.reservations.memory_bytes))
        turn_out(_beyond(present, resources.nano_cpus, lambda task: task.spec.resources.reservations.nano_cpus))
    for resource in resources.generic:
        if not resource.names:
            turn_out(_beyond(present, resource.amount, partial(_assigned, kind=resource.kind)))
    return gone


def _counts(task: Task) -> bool:
    return task.desired_state <= TaskState.COMPLETE and TaskState.ASSIGNED <= task.status.state < TaskState.COMPLETE


def _beyond(tasks: Sequence[Task], capacity: int, demand: Callable[[Task], int]) -> list[Task]:
    """Whom to turn out so that the others fit."""
    used = sum([demand(task) for task in tasks])
    if used <= capacity:
        return []
    victims: list[Task] = []
    for task in sorted(tasks, key=lambda task: (-demand(task), -task.meta.created_at, task.id)):
        if used <= capacity:
            break
        used -= demand(task)
        victims.append(task)
    return victims


def _has_generic(node: Node, task: Task) -> bool:
    """Whether the node still has the members of sets that the task got, and counts what the task got an amount of."""
    if not task.assigned_generic_resources:
        return True
    had = {resource.kind: resource for resource in node.description.resources.generic}
    for assigned in task.assigned_generic_resources:
        there = had.get(assigned.kind)
        if there is None or bool(there.names) != bool(assigned.names) or not {*assigned.names} <= {*there.names}:
            return False
    return True


def _assigned(task: Task, kind: str) -> int:
    return sum([resource.amount for resource in task.assigned_generic_resources if resource.kind == kind])


def _rejected(status: TaskStatus, now: float) -> TaskStatus:
    return replace(status, state=TaskState.REJECTED, at=now, message=ENFORCED_MESSAGE, err=ENFORCED_ERROR)
