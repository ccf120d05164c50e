"""Which tasks should exist: replicated services, updates, restarts, reaping. Pure: a transaction and `now` in,
changes and the next wake-up out. Must not know where tasks run, who writes, or what time it is."""

from swarmd.orchestrator.history import reap
from swarmd.orchestrator.reconcile import Reconciled, reconcile, reconcile_service
from swarmd.orchestrator.update import UpdateProgress, update_progress

__all__ = ["Reconciled", "UpdateProgress", "reap", "reconcile", "reconcile_service", "update_progress"]
