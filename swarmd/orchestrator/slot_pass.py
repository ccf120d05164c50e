"""What one pass does to the slots of a service, whatever they are: give them up, fill them, tend them, move them.

A slot has one wanted task; while it is moved start-first, also the old one until the new one runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec
from msgspec.structs import replace

from swarmd.model import Driver, Node, Service, Task, TaskSpec, TaskState, TaskStatus, UpdateOrder
from swarmd.orchestrator.dirty import is_outdated
from swarmd.orchestrator.facts import evicts, has_ended, is_held
from swarmd.orchestrator.restart import failures_before, may_restart, release_at, start_at
from swarmd.orchestrator.slots import Slot
from swarmd.orchestrator.start_rate import StartQueue
from swarmd.orchestrator.update import config_of
from swarmd.state.batch import BATCH_BYTES_MAX, CHANGES_MAX
from swarmd.state.features import ORCHESTRATION
from swarmd.state.transaction import Transaction

BLOCKED_BY_OLD = frozenset({"host_port", "max_replicas"})
"""Filters of the scheduler by which the old task of a slot may keep its own successor out."""


class Template(msgspec.Struct, frozen=True, gc=False):
    """What a new task is made from: the service's present spec, or that of the task it replaces."""

    spec: TaskSpec
    spec_version: int
    labels: dict[str, str]


def is_full(tx: Transaction) -> bool:
    """Whether the transaction is as large as one should be."""
    return tx.changes_count >= CHANGES_MAX or tx.bytes_estimate >= BATCH_BYTES_MAX


def want(tx: Transaction, task: Task, desired: TaskState) -> Task:
    """Raise the task's desired state; it never goes back. Returns the task as it is then."""
    if task.desired_state >= desired:
        return task
    changed = replace(task, desired_state=desired)
    tx.update(changed)
    return changed


class SlotPass:
    """Changes the slots of one service. Made for one transaction; what does not fit is left for the next.

    Args:
        leaving: ids of wanted tasks that are to be replaced by others like themselves (a rebalance).
        failed: slots (keys) whose new task failed: a start-first move of one is given up.
        goal: what a released task is wanted to become: RUNNING, or COMPLETE if it is a job's.
        job_iteration: of which iteration of a job new tasks are.
        starts: the transaction's, if other passes are part of it.
    """

    def __init__(
        self,
        tx: Transaction,
        service: Service,
        *,
        leaving: Collection[str] = (),
        failed: Collection[str] = (),
        goal: TaskState = TaskState.RUNNING,
        job_iteration: int = 0,
        starts: StartQueue | None = None,
    ) -> None:
        self._tx = tx
        self._service = service
        self._template = Template(service.spec.task, service.spec_version, service.spec.labels)
        self._leaving = leaving
        self._failed = failed
        self._goal = goal
        self._job_iteration = job_iteration
        self._starts = starts or StartQueue(tx)
        cluster = tx.cluster(unchecked=True)
        self._counts_failures = cluster is not None and ORCHESTRATION in cluster.feature_level
        self._starts_first = config_of(service).order is UpdateOrder.START_FIRST
        self._nodes: dict[str, Node | None] = {}
        self._evicting: dict[str, bool] = {}
        self.wake_at: float | None = None
        """When to look again if nothing changes until then."""
        self.is_full = False

    # -- many slots --------------------------------------------------------------------------------------------------
    def remove(self, slots: Iterable[Slot]) -> None:
        """Give the slots up. Their records go once the reaper sees that nothing of them runs any more."""
        for slot in slots:
            self.withdraw(slot, slot.tasks, TaskState.REMOVE)

    def withdraw(self, slot: Slot, tasks: Iterable[Task], desired: TaskState) -> None:
        """Want these tasks of the slot stopped (SHUTDOWN) or gone (REMOVE), and put nothing in their place."""
        for task in tuple(tasks):
            if self.is_full:
                return
            self._want(slot, task, desired)

    def fill(self, slots: Iterable[Slot]) -> None:
        """Put a task of the present template into each."""
        for slot in slots:
            if self.is_full:
                return
            self._create(slot, self._template)

    def tend(self, slots: Iterable[Slot], moved: Collection[str]) -> None:
        """Move those whose turn it is (keys), see to the others."""
        for slot in slots:
            if self.is_full:
                return
            if slot.key in moved:
                self._move(slot)
            else:
                self._tend_one(slot)

    def node(self, id: str) -> Node | None:
        """The node as the pass sees it. Not recorded: a decision that relies on one reads it again."""
        if id not in self._nodes:
            self._nodes[id] = self._tx.node(id, unchecked=True)
        return self._nodes[id]

    def wake(self, at: float | None) -> None:
        """Look again at that instant at the latest."""
        if at is not None:
            self.wake_at = at if self.wake_at is None else min(self.wake_at, at)

    # -- one slot ----------------------------------------------------------------------------------------------------
    def _move(self, slot: Slot) -> None:
        """Put a task of the present template in its place: after what is there has stopped, or beside it at first."""
        sound = [task for task in slot.wanted if self._is_sound(task)] if self._starts_first else []
        kept = max(sound, key=self._worth, default=None)
        for task in tuple(slot.wanted):
            if task is not kept:
                self._want(slot, task, TaskState.SHUTDOWN)
        self._create(slot, self._template, is_beside=kept is not None)

    def _tend_one(self, slot: Slot) -> None:
        wanted = slot.wanted
        if not wanted:
            return  # what ended here is not to be restarted
        if len(wanted) > 1 and self._starts_first and self._is_replacing(slot):
            return
        wanted = slot.wanted
        current = wanted[0] if len(wanted) == 1 else max(wanted, key=self._worth)
        for task in tuple(wanted):
            if task is not current:
                self._want(slot, task, TaskState.SHUTDOWN)
        if has_ended(current):
            self._replace_ended(slot, current)
        elif current.node_id and self._evicts(current.node_id):
            self._tx.node(current.node_id)  # recorded: what follows relies on it
            self._replace(slot, current)
        elif is_held(current):
            self._release(slot, current)

    def _is_replacing(self, slot: Slot) -> bool:
        """An old and a new task: the old one goes once the new one runs; the new one goes if it failed. Whether both
        are wanted still."""
        old = [task for task in slot.wanted if self._is_old(task)]
        new = [task for task in slot.wanted if not self._is_old(task)]
        if not old or not new:
            return False
        current = max(new, key=self._worth)
        for task in new:
            if task is not current:
                self._want(slot, task, TaskState.SHUTDOWN)
        is_up = current.status.state is TaskState.RUNNING
        if not is_up and (has_ended(current) or slot.key in self._failed):
            self._want(slot, current, TaskState.SHUTDOWN)
            return False
        is_blocked = not current.node_id and is_blocked_by_old(current)
        for task in old:
            if is_up or is_blocked or not self._is_sound(task):
                self._want(slot, task, TaskState.SHUTDOWN)
        return len(slot.wanted) > 1

    def _is_old(self, task: Task) -> bool:
        return task.id in self._leaving or is_outdated(task, self._service, self.node)

    def _is_sound(self, task: Task) -> bool:
        return bool(task.node_id) and not has_ended(task) and not self._evicts(task.node_id)

    def _worth(self, task: Task) -> tuple[bool, bool, int, float]:
        """Which of several wanted tasks stays: the present template's, not ended, furthest, newest."""
        return (not self._is_old(task), not has_ended(task), task.status.state, task.meta.created_at)

    def _replace_ended(self, slot: Slot, task: Task) -> None:
        if is_held(task):  # failed before it was released: the delay it was held for is not over
            earliest = self._earliest(slot, task, task.meta.created_at)
            if self._tx.now < earliest:
                self.wake(earliest)
                return
        self._replace(slot, task)

    def _replace(self, slot: Slot, task: Task) -> None:
        """Shut `task` down, and if the policy allows put another in its place.

        Until an update reaches its slot, an outdated task is replaced by one like itself: a new template that is no
        good must not spread through restarts.
        """
        template = self._template
        if is_outdated(task, self._service, self.node):
            template = Template(task.spec, task.spec_version, task.labels)
        is_allowed = may_restart(task, slot.earlier_than(task))
        self._want(slot, task, TaskState.SHUTDOWN)
        if is_allowed:
            self._create(slot, template)

    def _release(self, slot: Slot, task: Task) -> None:
        """Let a held task start once its delay is over and nothing else of its slot runs."""
        created_at = task.meta.created_at
        others = [other for other in (*slot.tasks, *slot.leaving) if other.id != task.id]
        due = release_at(created_at, self._earliest(slot, task, created_at), others, self.node)
        if self._tx.now >= due:
            due = self._starts.may_start_at(task)
        if self._tx.now >= due:
            self._want(slot, task, self._goal)
        else:
            self.wake(due)

    # -- writes ----------------------------------------------------------------------------------------------------
    def _create(self, slot: Slot, template: Template, *, is_beside: bool = False) -> None:
        """A new task in the slot, held back if something must be waited for."""
        tx, service = self._tx, self._service
        tx.tasks_of_slot(service.id, slot.number, slot.node_id)  # recorded: nobody else fills the slot
        task = Task(
            id=tx.new_id(),
            service_id=service.id,
            service_name=service.spec.name,
            slot=slot.number,
            node_id=slot.node_id,
            spec=template.spec,
            spec_version=template.spec_version,
            labels=template.labels,
            log_driver=self._default_log_driver() if template.spec.log_driver is None else None,
            status=TaskStatus(state=TaskState.NEW, at=tx.now, message="created"),
            desired_state=self._goal,
            job_iteration=self._job_iteration,
            failures=self._failures_before(slot, template),
        )
        if not is_beside:
            others = (*slot.tasks, *slot.leaving)
            due = release_at(tx.now, self._earliest(slot, task, tx.now), others, self.node)
            if due > tx.now:
                task = replace(task, desired_state=TaskState.READY)
                self.wake(due)
        tx.create(task)
        slot.add(task)
        self.is_full = is_full(tx)

    def _default_log_driver(self) -> Driver | None:
        """The swarm's, for new tasks alone: changing it restarts nothing."""
        cluster = self._tx.cluster(unchecked=True)
        return cluster.spec.task_defaults.log_driver if cluster is not None else None

    def _want(self, slot: Slot, task: Task, desired: TaskState) -> None:
        changed = want(self._tx, task, desired)
        if changed is not task:
            slot.replace(changed)
            self.is_full = is_full(self._tx)

    def _failures_before(self, slot: Slot, template: Template) -> int:
        predecessor = slot.tasks[-1] if slot.tasks and self._counts_failures else None
        return failures_before(template.spec, predecessor)

    def _earliest(self, slot: Slot, task: Task, created_at: float) -> float:
        earlier = slot.earlier_than(task)
        return start_at(created_at, task, earlier[-1] if earlier else None, self.node)

    def _evicts(self, node_id: str) -> bool:
        verdict = self._evicting.get(node_id)
        if verdict is None:
            verdict = self._evicting[node_id] = evicts(self.node(node_id))
        return verdict


def is_blocked_by_old(task: Task) -> bool:
    """Whether the scheduler found no node for the new task, and the old one may be why."""
    unplaced = task.status.unplaced
    return unplaced is not None and any(verdict.filter in BLOCKED_BY_OLD for verdict in unplaced.verdicts)
