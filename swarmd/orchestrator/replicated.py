"""One pass over one replicated service: as many slots as replicas, each tended, and moved to a new template in turn."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from swarmd.model import Node, Rebalancing, Replicated, Service, UpdateStatus
from swarmd.orchestrator.rebalancing import moves_of
from swarmd.orchestrator.revision import automatic_rollback
from swarmd.orchestrator.slot_pass import SlotPass
from swarmd.orchestrator.slots import Slot, choose_kept, free_numbers, slots_of
from swarmd.orchestrator.update import Turn, steer
from swarmd.state.features import ORCHESTRATION
from swarmd.state.transaction import Transaction


class Reconciled(msgspec.Struct, frozen=True, gc=False):
    """When to look at the service again, if ever; the task whose end brought its update to a halt, if one did."""

    wake_at: float | None = None
    paused_by: str = ""


class ReplicatedPass:
    """What `reconcile_service` does for a replicated service that exists. Made for one transaction."""

    def __init__(self, tx: Transaction, service: Service) -> None:
        self._tx = tx
        self._service = service

    def run(self) -> Reconciled:
        """Do as much as one transaction should hold."""
        tx, service = self._tx, self._service
        mode = service.spec.mode
        assert isinstance(mode, Replicated)
        slots = slots_of(tx.tasks_of_service(service.id, unchecked=True))
        occupied = [slot for slot in slots.values() if slot.is_occupied]
        kept, _ = choose_kept(occupied, mode.replicas, self._node)
        taken = {slot.number for slot in kept}
        missing = free_numbers(taken, mode.replicas - len(kept))
        in_use = taken.union(missing)
        course = Steering(tx, service, kept)
        if course.rolls_back:
            return Reconciled(tx.now, course.failed_by)
        work = course.work
        work.remove(slot for slot in slots.values() if slot.number not in in_use)
        work.fill(slots.get(number) or Slot(number) for number in missing)
        work.wake(course.turn.wake_at)
        work.tend(sorted(kept, key=lambda slot: slot.number), frozenset(course.turn.slots))
        return Reconciled(tx.now if work.is_full else work.wake_at, course.failed_by)

    def _node(self, id: str) -> Node | None:
        return self._tx.node(id, unchecked=True)


class Steering:
    """A service's update or rebalance, looked at and written down; `work` then carries its turn out."""

    def __init__(self, tx: Transaction, service: Service, slots: list[Slot]) -> None:
        self._tx = tx
        course = steer(slots, service, tx.now, lambda id: tx.node(id, unchecked=True))
        self.turn: Turn = course.turn
        self.failed_by = course.failed_by
        self.rolls_back = course.rolls_back
        status, rebalancing = course.status, service.rebalancing
        if rebalancing is not None:
            if course.turn.slots or (status is not None and status is not service.update_status):
                rebalancing = None  # an update has the right of way, and places its tasks anew anyway
            else:
                moves = moves_of(slots, service, tx.now)
                rebalancing, self.turn = moves.rebalancing, moves.turn
        if course.rolls_back:
            assert status is not None
            tx.update(automatic_rollback(service, status))
            return
        self._write(service, status, rebalancing)
        self.work = SlotPass(
            tx,
            service,
            leaving=frozenset(rebalancing.task_ids) if rebalancing is not None else frozenset(),
            failed=frozenset(status.failed) if status is not None else frozenset(),
        )

    def _write(self, service: Service, status: UpdateStatus | None, rebalancing: Rebalancing | None) -> None:
        if status == service.update_status and rebalancing == service.rebalancing:
            return
        cluster = self._tx.cluster(unchecked=True)
        if cluster is not None and ORCHESTRATION in cluster.feature_level:
            self._tx.update(replace(service, update_status=status, rebalancing=rebalancing))
