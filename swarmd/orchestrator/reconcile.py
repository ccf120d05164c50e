"""Level-triggered: bring one service's tasks to what its spec says (reference orchestration 2, 5)."""

from __future__ import annotations

from swarmd.model import Global, GlobalJob, Replicated, ReplicatedJob, TaskState
from swarmd.orchestrator.global_services import GlobalPass
from swarmd.orchestrator.history import reap
from swarmd.orchestrator.jobs import ReplicatedJobPass
from swarmd.orchestrator.replicated import Reconciled, ReplicatedPass
from swarmd.orchestrator.slot_pass import is_full, want
from swarmd.state.transaction import Transaction

__all__ = ["Reconciled", "reap", "reconcile", "reconcile_service"]


def reconcile_service(tx: Transaction, service_id: str) -> float | None:
    """Create, replace, stop and mark tasks of one service through `tx`.

    Covers: missing slots, surplus slots, finished tasks (restart policy, delay, history), tasks on invalid nodes (DOWN
    or DRAIN or gone: replaced without delay), tasks of an older spec (replaced slot by slot, stop-first, one at a time;
    a new one that fails pauses the rest, see `update_progress`), a removed service (all its tasks wanted REMOVE).
    Returns when to look again (epoch seconds), or None: `tx.now` if the transaction is as large as one should be and
    there is more to do. At rest it writes nothing.
    """
    return reconcile(tx, service_id).wake_at


def reconcile(tx: Transaction, service_id: str) -> Reconciled:
    """`reconcile_service`, and what stands in the way of the service's update, for who wants to tell of it."""
    service = tx.service(service_id)
    if service is None:
        return Reconciled(_remove_all(tx, service_id))
    match service.spec.mode:
        case Replicated():
            return ReplicatedPass(tx, service).run()
        case ReplicatedJob():
            return ReplicatedJobPass(tx, service).run()
        case Global() | GlobalJob():
            return GlobalPass(tx, service).run()


def _remove_all(tx: Transaction, service_id: str) -> float | None:
    for task in tx.tasks_of_service(service_id, unchecked=True):
        if is_full(tx):
            return tx.now
        want(tx, task, TaskState.REMOVE)
    return None
