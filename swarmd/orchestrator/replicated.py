"""One pass over one replicated service: slots are removed, filled, tended, and moved to a new template."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from swarmd.model import Node, Replicated, Service, Task, TaskSpec, TaskState, TaskStatus
from swarmd.orchestrator.facts import evicts, has_ended, is_held
from swarmd.orchestrator.restart import may_restart, release_at, start_at
from swarmd.orchestrator.slots import Slot, choose_kept, free_numbers, slots_of
from swarmd.orchestrator.update import Turn, is_outdated, next_turn
from swarmd.state.batch import BATCH_BYTES_MAX, CHANGES_MAX
from swarmd.state.transaction import Transaction


class Template(msgspec.Struct, frozen=True, gc=False):
    """What a new task is made from: the service's present spec, or that of the task it replaces."""

    spec: TaskSpec
    spec_version: int
    labels: dict[str, str]


class Reconciled(msgspec.Struct, frozen=True, gc=False):
    """When to look at the service again, if ever; the task whose end pauses its update, if one does."""

    wake_at: float | None = None
    paused_by: str = ""


def is_full(tx: Transaction) -> bool:
    """Whether the transaction is as large as one should be."""
    return tx.changes_count >= CHANGES_MAX or tx.bytes_estimate >= BATCH_BYTES_MAX


def want(tx: Transaction, task: Task, desired: TaskState) -> Task:
    """Raise the task's desired state; it never goes back. Returns the task as it is then."""
    if task.desired_state >= desired:
        return task
    changed = msgspec.structs.replace(task, desired_state=desired)
    tx.update(changed)
    return changed


class ReplicatedPass:
    """What `reconcile_service` does for a service that exists. Made for one transaction."""

    def __init__(self, tx: Transaction, service: Service) -> None:
        self._tx = tx
        self._service = service
        self._template = Template(service.spec.task, service.spec_version, service.spec.labels)
        self._nodes: dict[str, Node | None] = {}
        self._evicting: dict[str, bool] = {}
        self._wake_at: float | None = None
        self._is_full = False

    def run(self) -> Reconciled:
        """Do as much as one transaction should hold."""
        slots = slots_of(self._tx.tasks_of_service(self._service.id, unchecked=True))
        occupied = [slot for slot in slots.values() if slot.is_occupied]
        mode = self._service.spec.mode
        assert isinstance(mode, Replicated)
        replicas = mode.replicas
        kept, _ = choose_kept(occupied, replicas, self._node)
        taken = {slot.number for slot in kept}
        missing = free_numbers(taken, replicas - len(kept))
        in_use = taken.union(missing)
        self._remove(slot for slot in slots.values() if slot.number not in in_use)
        for number in missing:
            if self._is_full:
                break
            self._create(slots.get(number) or Slot(number), self._template)
        turn = next_turn(kept, self._service, self._tx.now)
        if turn.wake_at is not None:
            self._wake(turn.wake_at)
        self._tend(kept, turn)
        return Reconciled(self._tx.now if self._is_full else self._wake_at, turn.paused_by)

    # -- slots -----------------------------------------------------------------------------------------------------
    def _remove(self, slots: Iterable[Slot]) -> None:
        """Give the slots up. Their records go once the reaper sees that nothing of them runs any more."""
        for slot in slots:
            for task in tuple(slot.tasks):
                if self._is_full:
                    return
                self._want(slot, task, TaskState.REMOVE)

    def _tend(self, slots: list[Slot], turn: Turn) -> None:
        moved = frozenset(turn.slots)
        for slot in sorted(slots, key=lambda s: s.number):
            if self._is_full:
                return
            if slot.number in moved:
                self._move(slot)
            else:
                self._tend_one(slot)

    def _move(self, slot: Slot) -> None:
        """Stop what is there and put a task of the present template in its place."""
        for task in tuple(slot.wanted):
            self._want(slot, task, TaskState.SHUTDOWN)
        self._create(slot, self._template)

    def _tend_one(self, slot: Slot) -> None:
        wanted = slot.wanted
        if not wanted:
            return  # what ended here is not to be restarted
        current = wanted[0] if len(wanted) == 1 else max(wanted, key=self._worth)
        for task in wanted:
            if task is not current:
                self._want(slot, task, TaskState.SHUTDOWN)
        if has_ended(current):
            self._replace_ended(slot, current)
        elif current.node_id and self._evicts(current.node_id):
            self._tx.node(current.node_id)  # recorded: what follows relies on it
            self._replace(slot, current)
        elif is_held(current):
            self._release(slot, current)

    def _worth(self, task: Task) -> tuple[bool, bool, int, float]:
        """Which of several wanted tasks stays: the present template's, not ended, furthest, newest."""
        return (
            not is_outdated(task, self._service),
            not has_ended(task),
            task.status.state,
            task.meta.created_at,
        )

    def _replace_ended(self, slot: Slot, task: Task) -> None:
        if is_held(task):  # failed before it was released: the delay it was held for is not over
            earliest = self._earliest(slot, task, task.meta.created_at)
            if self._tx.now < earliest:
                self._wake(earliest)
                return
        self._replace(slot, task)

    def _replace(self, slot: Slot, task: Task) -> None:
        """Shut `task` down, and if the policy allows put another in its place.

        Until an update reaches its slot, an outdated task is replaced by one like itself: a new template that is no
        good must not spread through restarts.
        """
        template = self._template
        if is_outdated(task, self._service):
            template = Template(task.spec, task.spec_version, task.labels)
        is_allowed = may_restart(task, slot.earlier_than(task))
        self._want(slot, task, TaskState.SHUTDOWN)
        if is_allowed:
            self._create(slot, template)

    def _release(self, slot: Slot, task: Task) -> None:
        """Let a held task start once its delay is over and nothing else of its slot runs."""
        created_at = task.meta.created_at
        others = [other for other in (*slot.tasks, *slot.leaving) if other.id != task.id]
        due = release_at(created_at, self._earliest(slot, task, created_at), others, self._node)
        if self._tx.now >= due:
            self._want(slot, task, TaskState.RUNNING)
        else:
            self._wake(due)

    # -- writes ----------------------------------------------------------------------------------------------------
    def _create(self, slot: Slot, template: Template) -> None:
        """A new task in the slot, held back if something must be waited for."""
        tx, service = self._tx, self._service
        tx.tasks_of_slot(service.id, slot.number)  # recorded: nobody else fills the slot
        task = Task(
            id=tx.new_id(),
            service_id=service.id,
            service_name=service.spec.name,
            slot=slot.number,
            spec=template.spec,
            spec_version=template.spec_version,
            labels=template.labels,
            status=TaskStatus(state=TaskState.NEW, at=tx.now, message="created"),
        )
        due = release_at(tx.now, self._earliest(slot, task, tx.now), (*slot.tasks, *slot.leaving), self._node)
        if due > tx.now:
            task = msgspec.structs.replace(task, desired_state=TaskState.READY)
            self._wake(due)
        tx.create(task)
        slot.add(task)
        self._is_full = is_full(tx)

    def _want(self, slot: Slot, task: Task, desired: TaskState) -> None:
        changed = want(self._tx, task, desired)
        if changed is not task:
            slot.replace(changed)
            self._is_full = is_full(self._tx)

    def _earliest(self, slot: Slot, task: Task, created_at: float) -> float:
        earlier = slot.earlier_than(task)
        return start_at(created_at, task, earlier[-1] if earlier else None, self._node)

    def _wake(self, at: float) -> None:
        self._wake_at = at if self._wake_at is None else min(self._wake_at, at)

    def _evicts(self, node_id: str) -> bool:
        verdict = self._evicting.get(node_id)
        if verdict is None:
            verdict = self._evicting[node_id] = evicts(self._node(node_id))
        return verdict

    def _node(self, id: str) -> Node | None:
        """The node as the pass sees it. Not recorded: a decision that relies on one reads it again."""
        if id not in self._nodes:
            self._nodes[id] = self._tx.node(id, unchecked=True)
        return self._nodes[id]
