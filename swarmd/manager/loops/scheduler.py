"""Runs placement passes over the `Scheduler` of a reign and writes what they decide."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import trio
from msgspec.structs import replace

from swarmd.errors import Conflict, ResourceExhausted
from swarmd.manager.loops.feed import Feed
from swarmd.manager.proposer import Store
from swarmd.model import Node, PlacementFailure, Task, TaskState, TaskStatus
from swarmd.scheduler import Placement, Scheduler, Unplaced
from swarmd.state.batch import batches
from swarmd.state.command import Table
from swarmd.state.features import ORCHESTRATION
from swarmd.state.transaction import Transaction
from swarmd.state.watch import Event, Route

log = logging.getLogger(__name__)

T = TypeVar("T")

ACTOR: Final = "leader:scheduler"
QUIET_S: Final = 0.05
"""Tasks that follow upon a pass are gathered until none came for this long (SwarmKit `commitDebounceGap`) ..."""
GATHER_S_MAX: Final = 1.0
"""... but no longer than this (SwarmKit `maxLatency`)."""
SLICE: Final = 256
"""Tasks or events taken in without a pause: about 1 ms."""
CHUNK_MIN: Final = 1000
"""Tasks decided without a pause, or an eighth of the nodes if that is more (performance-scheduler 4)."""
WHOLE_TASK_BYTES: Final = 4_096
"""What a whole task is taken to weigh in a batch; a heavier batch is halved until it fits."""
WRITES_MAX: Final = 4
"""Batches in flight at a time."""


class SchedulerLoop:
    """One instance per reign."""

    def __init__(self, store: Store, *, now: Callable[[], float], rng: random.Random) -> None:
        self._store = store
        self._now = now
        self._scheduler = Scheduler((), ())
        self._passed_at = -math.inf

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Schedule until cancelled. Raises `Unavailable` (in a group) once this manager does not lead."""
        with Feed(self._store.state, (Route(Table.NODE), Route(Table.TASK))) as feed:
            await self._absorb(None)
            task_status.started()
            while True:
                if self._scheduler.has_work:
                    await self._gather(feed)
                    await self._pass(feed)
                    self._passed_at = trio.current_time()
                else:
                    await self._absorb(await feed.next())

    async def _absorb(self, events: Sequence[Event] | None) -> None:
        """Bring the scheduler's picture up to date, in slices. None: build it anew, from what there is at this moment;
        what changes meanwhile is in the events that follow. Must not be cancelled if it is to be called again."""
        if events is None:
            self._scheduler = Scheduler(self._store.state.nodes(), ())
            await _in_slices(list(self._store.state.tasks()), self._scheduler.task_found)
        else:
            now = self._now()
            await _in_slices(events, lambda event: self._take_in(event, now))

    def _take_in(self, event: Event, now: float) -> None:
        match event.new or event.old:
            case Node() as node if event.new is not None:
                self._scheduler.node_changed(node)
            case Node(id=id):
                self._scheduler.node_removed(id)
            case Task() as task if event.new is not None:
                self._scheduler.task_changed(task, now)
            case Task(id=id):
                self._scheduler.task_removed(id)
            case _:
                pass

    async def _gather(self, feed: Feed) -> None:
        """Return at once after an idle time, else once no more tasks come in."""
        started = trio.current_time()
        if started - self._passed_at >= QUIET_S:
            return
        quiet_at = started + QUIET_S
        while trio.current_time() < quiet_at:
            waiting = self._scheduler.waiting_count
            with trio.move_on_at(quiet_at) as quiet:
                events = await feed.next()
            if quiet.cancelled_caught:
                return
            await self._absorb(events)
            if self._scheduler.waiting_count > waiting:
                quiet_at = min(trio.current_time() + QUIET_S, started + GATHER_S_MAX)

    async def _pass(self, feed: Feed) -> None:
        """Decide and write, chunk by chunk, until the queue has been through once."""
        has_more = True
        while has_more:
            limit = max(CHUNK_MIN, self._scheduler.node_count // 8)
            placed, unplaced = self._scheduler.place(self._now(), limit=limit)
            has_more = self._scheduler.has_work
            await self._write(placed, unplaced)
            await self._absorb(feed.take())
            await trio.lowlevel.checkpoint()

    async def _write(self, placed: Sequence[Placement], unplaced: Sequence[Unplaced]) -> None:
        limiter = trio.CapacityLimiter(WRITES_MAX)
        by_explanation: dict[tuple[str, PlacementFailure], list[str]] = {}
        for decision in unplaced:
            by_explanation.setdefault((decision.explanation, decision.failure), []).append(decision.task_id)
        async with trio.open_nursery() as nursery:
            for group in batches(placed, bytes_of=_bytes_of):
                nursery.start_soon(self._assign, group, limiter)
            for (explanation, failure), ids in by_explanation.items():
                for told in batches(ids):
                    nursery.start_soon(self._explain, explanation, failure, told, limiter)

    async def _assign(self, group: Sequence[Placement], limiter: trio.CapacityLimiter) -> None:
        """Write assignments; those that do not hold any more are decided again."""
        try:
            async with limiter:
                refused, _ = await self._store.update(lambda tx: assign(tx, group), actor=ACTOR, fenced=True)
        except (Conflict, ResourceExhausted) as error:
            if len(group) == 1:
                log.debug("assigning task %s: %s", group[0].task_id, error)
                self._scheduler.refused(group[0].task_id)
                return
            for half in (group[: len(group) // 2], group[len(group) // 2 :]):
                await self._assign(half, limiter)
        else:
            for task_id in refused:
                self._scheduler.refused(task_id)

    async def _explain(
        self, explanation: str, failure: PlacementFailure, ids: Sequence[str], limiter: trio.CapacityLimiter
    ) -> None:
        """Write why tasks wait; what could not be written is tried again in the next pass."""
        try:
            async with limiter:
                await self._store.update(lambda tx: explain(tx, ids, explanation, failure), actor=ACTOR, fenced=True)
        except (Conflict, ResourceExhausted) as error:
            log.debug("explaining %d tasks: %s", len(ids), error)
            for task_id in ids:
                self._scheduler.refused(task_id)


async def _in_slices(items: Sequence[T], take_in: Callable[[T], None]) -> None:
    for number, item in enumerate(items, 1):
        take_in(item)
        if number % SLICE == 0:
            await trio.lowlevel.checkpoint()


def _bytes_of(placement: Placement) -> int:
    """An estimate: what is given with generic resources is written whole."""
    return WHOLE_TASK_BYTES if placement.generic else 0


def assign(tx: Transaction, group: Sequence[Placement]) -> list[str]:
    """Assign what still holds; ids of the tasks that must be decided again. A node's readiness is part of it."""
    status = TaskStatus(state=TaskState.ASSIGNED, at=tx.now, message="scheduler assigned task to node")
    confirmed = TaskStatus(
        state=TaskState.ASSIGNED, at=tx.now, message="scheduler confirmed task can run on preassigned node"
    )
    refused: list[str] = []
    for placement in group:
        task = tx.task(placement.task_id, unchecked=True)
        if task is None or not _waits(task) or not tx.is_node_ready(placement.node_id, unchecked=True):
            refused.append(placement.task_id)
        elif placement.generic:
            tx.require_node_ready(placement.node_id)
            tx.update(
                replace(
                    task,
                    node_id=placement.node_id,
                    status=confirmed if task.node_id else status,
                    assigned_generic_resources=placement.generic,
                )
            )
        elif task.node_id:  # bound to it from the start: only the state is news
            tx.require_node_ready(placement.node_id)
            tx.advance(placement.task_id, confirmed)
        else:
            tx.assign(placement.task_id, placement.node_id, status)
    return refused


def explain(tx: Transaction, ids: Sequence[str], explanation: str, failure: PlacementFailure) -> None:
    """Tell the tasks that still wait why; the numbers only once every manager knows what they are."""
    cluster = tx.cluster(unchecked=True)
    status = TaskStatus(
        state=TaskState.PENDING,
        at=tx.now,
        message="pending task scheduling",
        err=explanation,
        unplaced=failure if cluster is not None and ORCHESTRATION in cluster.feature_level else None,
    )
    for id in ids:
        task = tx.task(id, unchecked=True)
        if task is not None and _waits(task) and task.status.err != explanation:
            tx.advance(id, status)


def _waits(task: Task) -> bool:
    return task.status.state is TaskState.PENDING and task.desired_state <= TaskState.COMPLETE
