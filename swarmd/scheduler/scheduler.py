"""The scheduler's own picture of nodes and tasks, fed by events, and its placement pass (performance-scheduler 3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

import msgspec

from swarmd.model import GenericResource, Node, PlacementFailure, Task, TaskState
from swarmd.scheduler.explain import explain, failure_of
from swarmd.scheduler.failures import FailureLog
from swarmd.scheduler.filters import border_of
from swarmd.scheduler.node_info import NodeInfo
from swarmd.scheduler.nodes import NodeTable
from swarmd.scheduler.profile import Profile, Profiles
from swarmd.scheduler.spread import best_node, is_group
from swarmd.scheduler.tree import choose
from swarmd.scheduler.waiting import Group, GroupKey, WaitingTasks

TESTS_PER_DECISION: Final = 64
"""Exact tests that weigh as much as one decision: a try that fails takes one for each node in the request's octave."""
VISITS_PER_DECISION: Final = 32
"""Nodes looked at for an attribute that nobody asked for before, likewise."""


class Placement(msgspec.Struct, frozen=True, gc=False):
    """`task_id` goes to `node_id`, where it gets `generic`; `base` is the task's version the decision was based on."""

    task_id: str
    base: int
    node_id: str
    generic: tuple[GenericResource, ...] = ()


class Unplaced(msgspec.Struct, frozen=True, gc=False):
    """Why a task stays PENDING: a bounded summary, written only when its line changes, and the same in numbers."""

    task_id: str
    explanation: str
    failure: PlacementFailure


class _Charge(msgspec.Struct, gc=False):
    """What a task takes on a node until it has stopped. Only active ones count for spreading."""

    info: NodeInfo
    profile: Profile
    service_id: str
    is_active: bool
    generic: tuple[GenericResource, ...] = ()


class Scheduler:
    """One instance per reign, rebuilt from the state when it begins.

    Finished tasks among `tasks` are not charged, but their recent failures count, so that a new leader avoids the same
    nodes as the last.
    """

    def __init__(self, nodes: Iterable[Node], tasks: Iterable[Task]) -> None:
        self._nodes = NodeTable(nodes)
        self._profiles = Profiles()
        self._failures = FailureLog()
        self._waiting = WaitingTasks()
        self._charges: dict[str, _Charge] = {}
        self._is_touched = False
        for task in tasks:
            self.task_found(task)

    # -- events ----------------------------------------------------------------------------------------------------
    def node_changed(self, node: Node) -> None:
        """A node was created or changed."""
        if self._nodes.put(node):
            self._is_touched = True

    def node_removed(self, node_id: str) -> None:
        """A node is gone. Its tasks stay charged to its id until they are gone too."""
        if self._nodes.drop(node_id):
            self._is_touched = True

    def task_found(self, task: Task) -> None:
        """A task from before the reign. Finished ones are not charged, but their recent failures count."""
        if task.status.state in (TaskState.FAILED, TaskState.REJECTED):
            self._note_failure(task, task.status.at)
        else:
            self.task_changed(task, task.status.at)

    def task_changed(self, task: Task, now: float) -> None:
        """Also counts failures (FAILED, REJECTED) against (node, service, spec version)."""
        state = task.status.state
        if state > TaskState.RUNNING:
            if task.id in self._charges and state in (TaskState.FAILED, TaskState.REJECTED):
                self._note_failure(task, now)
            self.task_removed(task.id)
        elif state >= TaskState.ASSIGNED:
            self._task_has_node(task)
        elif state >= TaskState.PENDING:
            if task.desired_state > TaskState.COMPLETE:
                self.task_removed(task.id)
            else:
                self._waiting.put(task, self._group_key(task))

    def task_removed(self, task_id: str) -> None:
        """A task has stopped or is gone: whatever it held is free."""
        self._waiting.drop(task_id)
        self._refund(task_id)

    # -- the pass --------------------------------------------------------------------------------------------------
    @property
    def has_work(self) -> bool:
        """Whether a pass could place something that the last one could not."""
        return self._waiting.has_ready or (self._is_touched and self._waiting.has_parked)

    @property
    def waiting_count(self) -> int:
        """Tasks that want a node, those being assigned included."""
        return len(self._waiting)

    @property
    def node_count(self) -> int:
        """Nodes known."""
        return len(self._nodes)

    def place(self, now: float, *, limit: int) -> tuple[list[Placement], list[Unplaced]]:
        """Decide at most `limit` tasks; what is placed is charged at once and its own echo changes nothing.

        A group that fits nowhere counts as one decision, and one more for each of its tasks that must be told.
        """
        self._failures.sweep(now)
        if self._is_touched:
            self._waiting.unpark_all()
            self._is_touched = False
        placed: list[Placement] = []
        unplaced: list[Unplaced] = []
        budget = limit
        while budget > 0 and (first := self._waiting.first()) is not None:
            key, group = first
            visits = self._nodes.attributes.visits
            wanted = min(budget, len(group.tasks))
            got = self._place_group(key, group, wanted, now, placed)
            budget -= got
            if not group.tasks:
                self._waiting.close(key)
            elif got < wanted:
                budget -= self._explain_group(key, group, budget, unplaced)
            budget -= (self._nodes.attributes.visits - visits) // VISITS_PER_DECISION
        return placed, unplaced

    def refused(self, task_id: str) -> None:
        """The decision could not be written: give its charge back and queue the task again. So with an explanation."""
        waiting = self._waiting.find(task_id)
        if waiting is not None and waiting.is_decided:
            self._refund(task_id)
        self._waiting.undo(task_id)

    def _place_group(self, key: GroupKey, group: Group, wanted: int, now: float, placed: list[Placement]) -> int:
        service_id, spec_version, profile = key
        failing = self._failures.failing((service_id, spec_version), now)
        if profile.preferences or profile.is_packed or is_group(wanted, len(self._nodes)):
            chosen = choose(self._nodes, profile, service_id, failing, wanted)
            is_charged = not (profile.generic or profile.host_ports)
            if chosen and is_charged:
                self._nodes.charge_group(chosen, profile, service_id)
            infos = [self._nodes.infos[number] for number in chosen]
            self._decide(key, group, infos, placed, is_charged=is_charged)
            return len(chosen)
        for got in range(wanted):
            info = best_node(self._nodes, profile, service_id, failing)
            if info is None:
                return got
            self._decide(key, group, (info,), placed, is_charged=False)
        return wanted

    def _decide(
        self, key: GroupKey, group: Group, infos: Sequence[NodeInfo], placed: list[Placement], *, is_charged: bool
    ) -> None:
        """Record that the group's oldest tasks go to `infos`, and charge the nodes unless they are charged already."""
        service_id, _, profile = key
        generic: tuple[GenericResource, ...] = ()
        tasks = (
            list(islice(group.tasks.values(), len(infos))) if len(infos) != 1 else [next(iter(group.tasks.values()))]
        )
        for waiting, info in zip(tasks, infos, strict=True):
            if profile.generic:
                generic = self._nodes.generic.claim(info.number, profile.generic)
            if not is_charged:
                self._nodes.charge(info, profile, service_id, is_active=True, generic=generic)
            del group.tasks[waiting.id]
            group.untold.pop(waiting.id, None)
            waiting.is_decided = True
            self._charges[waiting.id] = _Charge(info, profile, service_id, True, generic)  # noqa: FBT003
            placed.append(Placement(waiting.id, waiting.version, info.id, generic))

    def _explain_group(self, key: GroupKey, group: Group, budget: int, unplaced: list[Unplaced]) -> int:
        service_id, _, profile = key
        group.explain(explain(self._nodes, profile, service_id))
        told = group.take_untold(budget)
        if told:
            failure = failure_of(self._nodes, profile, service_id)
            unplaced += [Unplaced(waiting.id, group.explanation, failure) for waiting in told]
        if group.untold:  # out of budget: last in the queue, to be told the rest
            self._waiting.postpone(key)
        else:
            self._waiting.park(key)
        return max(1, len(told)) + border_of(self._nodes, profile).bit_count() // TESTS_PER_DECISION

    # -- bookkeeping -------------------------------------------------------------------------------------------------
    def _group_key(self, task: Task) -> GroupKey:
        return (task.service_id, task.spec_version if task.service_id else 0, self._profiles.of(task))

    def _task_has_node(self, task: Task) -> None:
        self._waiting.drop(task.id)
        is_active = task.desired_state <= TaskState.COMPLETE
        charge = self._charges.get(task.id)
        if charge is not None and charge.info.id == task.node_id:
            if charge.is_active != is_active:
                self._nodes.count(charge.info, charge.service_id, 1 if is_active else -1)
                charge.is_active = is_active
                self._is_touched = True
            return
        self._refund(task.id)
        info = self._nodes.ensure(task.node_id)
        profile = self._profiles.of(task)
        generic = task.assigned_generic_resources
        self._nodes.charge(info, profile, task.service_id, is_active=is_active, generic=generic)
        self._charges[task.id] = _Charge(info, profile, task.service_id, is_active, generic)

    def _refund(self, task_id: str) -> None:
        charge = self._charges.pop(task_id, None)
        if charge is not None:
            self._nodes.refund(
                charge.info, charge.profile, charge.service_id, was_active=charge.is_active, generic=charge.generic
            )
            self._is_touched = True

    def _note_failure(self, task: Task, now: float) -> None:
        if not task.service_id:  # strangers to each other: no service is not a service
            return
        at = task.status.applied_at or now
        self._failures.add((task.service_id, task.spec_version), task.node_id, at)
