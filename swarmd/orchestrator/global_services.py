"""Global services and global jobs: one task on every node that qualifies (reference orchestration 3.1-3.3).

Each node is a slot. A whole service is looked at when it or its update changes (`GlobalPass`), a single node's slots
when the node changes (`reconcile_node`), a single slot when a task of it does (`reconcile_slot`): what one costs does
not depend on how many there are of the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto

from swarmd.model import Availability, Global, GlobalJob, Membership, Node, NodeState, Service, TaskState
from swarmd.orchestrator.dirty import admits
from swarmd.orchestrator.facts import evicts, has_ended
from swarmd.orchestrator.jobs import is_completed, iteration_of, job_work, remove_old, stop_unfinished
from swarmd.orchestrator.replicated import Reconciled, Steering
from swarmd.orchestrator.revision import is_job
from swarmd.orchestrator.slot_pass import SlotPass, is_full
from swarmd.orchestrator.slots import Slot, slots_by_node
from swarmd.orchestrator.start_rate import StartQueue
from swarmd.state.transaction import Transaction


class Standing(Enum):
    """What one node is to one global service."""

    FIT = auto()
    """It has a task, or gets one."""
    KEEPS = auto()
    """What is there stays as it is; what ends is not replaced for now."""
    UNFIT = auto()
    """What is there is stopped; it comes again once the node is fit."""
    GONE = auto()
    """Its records are done with."""


def is_global(service: Service) -> bool:
    """Whether its slots are nodes."""
    return isinstance(service.spec.mode, Global | GlobalJob)


def standing_of_node(service: Service, node: Node | None) -> Standing:
    """What the node is to the service.

    UNKNOWN and DISCONNECTED nodes may be fit: their tasks wait for the scheduler. A job gives no task to a node that is
    not READY, nor, unless it follows nodes, to one that joined after its iteration began.
    """
    if node is None or node.spec.membership is not Membership.ACCEPTED:
        return Standing.GONE
    if evicts(node) or not admits(node, service.spec.task.placement):
        return Standing.UNFIT
    if node.spec.availability is Availability.PAUSE:
        return Standing.KEEPS
    mode = service.spec.mode
    if isinstance(mode, GlobalJob):
        began_at = service.job_status.last_execution if service.job_status is not None else 0.0
        if node.status.state is not NodeState.READY or not (mode.follow_nodes or node.meta.created_at <= began_at):
            return Standing.KEEPS
    return Standing.FIT


class GlobalPass:
    """What `reconcile_service` does for a global service or job. Made for one transaction."""

    def __init__(self, tx: Transaction, service: Service) -> None:
        self._tx = tx
        self._service = service

    def run(self) -> Reconciled:
        """Do as much as one transaction should hold."""
        tx, service = self._tx, self._service
        slots = slots_by_node(tx.tasks_of_service(service.id, unchecked=True))
        groups: dict[Standing, list[Slot]] = {standing: [] for standing in Standing}
        for node in tx.nodes():
            slot = slots.pop(node.id, None) or Slot(0, node.id)
            groups[standing_of_node(service, node)].append(slot)
        groups[Standing.GONE] += slots.values()
        if is_job(service.spec):
            work, failed_by, turn_slots = job_work(tx, service), "", frozenset[str]()
        else:
            course = Steering(tx, service, [slot for slot in groups[Standing.FIT] if slot.is_occupied])
            if course.rolls_back:
                return Reconciled(tx.now, course.failed_by)
            work, failed_by, turn_slots = course.work, course.failed_by, frozenset(course.turn.slots)
            work.wake(course.turn.wake_at)
        for standing in (Standing.GONE, Standing.UNFIT, Standing.KEEPS, Standing.FIT):
            _bring_in_order(work, service, standing, groups[standing], turn_slots)
        return Reconciled(tx.now if work.is_full else work.wake_at, failed_by)


def reconcile_slot(tx: Transaction, service_id: str, node_id: str) -> float | None:
    """As `reconcile_service`, for one node of a global service alone. An update is left to that: nothing is moved."""
    service = tx.service(service_id, unchecked=True)
    if service is None or not is_global(service):
        return None
    return _reconcile_slot(tx, service, tx.node(node_id, unchecked=True), node_id, StartQueue(tx))


def reconcile_node(tx: Transaction, service_ids: Iterable[str], node_id: str) -> float | None:
    """As `reconcile_slot`, for all these services. Those that are not global are skipped."""
    node, starts = tx.node(node_id, unchecked=True), StartQueue(tx)
    wake_at: float | None = None
    for service_id in service_ids:
        if is_full(tx):
            return tx.now
        service = tx.service(service_id, unchecked=True)
        if service is not None and is_global(service):
            at = _reconcile_slot(tx, service, node, node_id, starts)
            if at is not None:
                wake_at = at if wake_at is None else min(wake_at, at)
    return wake_at


def _reconcile_slot(
    tx: Transaction, service: Service, node: Node | None, node_id: str, starts: StartQueue
) -> float | None:
    standing = standing_of_node(service, node)
    tasks = tx.tasks_of_slot(service.id, 0, node_id, unchecked=True)
    if not tasks and standing is not Standing.FIT:
        return None
    slot = slots_by_node(tasks).get(node_id) or Slot(0, node_id)
    if is_job(service.spec):
        work = job_work(tx, service, starts)
    else:
        status = service.update_status
        work = SlotPass(tx, service, failed=status.failed if status is not None else (), starts=starts)
    written = tx.changes_count
    _bring_in_order(work, service, standing, [slot], frozenset())
    if tx.changes_count > written:
        tx.service(service.id)  # recorded, with the node: what was decided relies on them
        tx.node(node_id)
    return tx.now if work.is_full else work.wake_at


def _bring_in_order(
    work: SlotPass, service: Service, standing: Standing, slots: list[Slot], moved: frozenset[str]
) -> None:
    if is_job(service.spec):
        remove_old(work, slots, iteration_of(service))
        if work.is_full:
            return
        if standing is not Standing.GONE:
            for slot in slots:
                if is_completed(slot):
                    stop_unfinished(work, slot)
            slots = [slot for slot in slots if not is_completed(slot)]
    match standing:
        case Standing.GONE:
            work.remove(slots)
        case Standing.UNFIT:
            for slot in slots:
                work.withdraw(slot, slot.wanted, TaskState.SHUTDOWN)
        case Standing.KEEPS:
            for slot in slots:
                work.withdraw(slot, [task for task in slot.wanted if has_ended(task)], TaskState.SHUTDOWN)
            work.tend(slots, ())
        case Standing.FIT:
            occupied = [slot for slot in slots if slot.is_occupied]
            work.fill([slot for slot in slots if not slot.is_occupied])
            work.tend(occupied, moved)
