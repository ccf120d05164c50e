"""Level-triggered: bring one service's tasks to what its spec says (reference orchestration 2, 5)."""

from __future__ import annotations

from swarmd.state.transaction import Transaction


def reconcile_service(tx: Transaction, service_id: str) -> float | None:
    """Create, replace, stop and mark tasks of one service through `tx`.

    Covers: missing slots, surplus slots, finished tasks (restart policy, delay, history), tasks on invalid nodes (DOWN or DRAIN or
    gone: replaced without delay), tasks of an older spec (replaced slot by slot, stop-first, one at a time), a removed service
    (all its tasks wanted REMOVE). Returns when to look again (epoch seconds), or None. At rest it writes nothing.
    """
    raise NotImplementedError


def reap(tx: Transaction, service_id: str) -> None:
    """Delete task records: wanted REMOVE and stopped (or never run), and finished ones beyond the history limit."""
    raise NotImplementedError
