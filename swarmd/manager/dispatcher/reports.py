"""Task statuses from nodes into the state: group commit, at most 1,000 an entry, each caller told once it is durable.

One entry is in flight; what arrives meanwhile goes into the next, so an idle store writes at once and a busy one writes
in large pieces. (SwarmKit waits 100 ms in any case and answers before the commit.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

import msgspec

from swarmd.errors import Invalid, SwarmError
from swarmd.manager.bell import Bell
from swarmd.manager.dispatcher.receipt import Receipt
from swarmd.manager.proposer import Store
from swarmd.model import TaskStatus
from swarmd.state.transaction import Transaction
from swarmd.wire.dispatch import ReportedStatus

REPORTS_PER_WRITE_MAX: Final = 1_000
REPORT_BYTES_PER_WRITE_MAX: Final = 1 << 20
"""An estimate is held to this, below what one entry may hold."""
TEXT_LENGTH_MAX: Final = 4096
"""Longer messages and errors of a task are cut: they are for people."""
CONTAINER_ID_LENGTH_MAX: Final = 128
INSTANT_MAX: Final = 253_402_300_799.0
"""The end of the year 9999: what comes later cannot be shown as a date."""
PID_MAX: Final = 1 << 32
_STATUS_BYTES: Final = 200
ACTOR: Final = "dispatcher"


def checked(updates: Sequence[ReportedStatus]) -> tuple[ReportedStatus, ...]:
    """`updates` without what is not a node's to say (why a task found no place).

    Raises `Invalid` for what no node observes: it would stay in the state, or burst the entry that it shares with the
    reports of others.
    """
    found = []
    for place, update in enumerate(updates):
        status = update.status
        _check(status, f"$.updates[{place}].status")
        if status.unplaced is not None:
            update = msgspec.structs.replace(update, status=msgspec.structs.replace(status, unplaced=None))
        found.append(update)
    return tuple(found)


def _check(status: TaskStatus, path: str) -> None:
    for name, instant in (("at", status.at), ("running_at", status.running_at)):
        if not 0.0 <= instant <= INSTANT_MAX:  # NaN is refused too
            raise Invalid("a time is seconds since 1970", field=f"{path}.{name}")
    container = status.container
    if container is None:
        return
    if len(container.container_id) > CONTAINER_ID_LENGTH_MAX:
        raise Invalid(
            f"a container's id has at most {CONTAINER_ID_LENGTH_MAX} characters", field=f"{path}.container.container_id"
        )
    if not 0 <= container.pid <= PID_MAX:
        raise Invalid("this is no process id", field=f"{path}.container.pid")
    if container.exit_code is not None and abs(container.exit_code) > PID_MAX:
        raise Invalid("this is no exit code", field=f"{path}.container.exit_code")


class _Submission:
    __slots__ = ("node_id", "receipt", "updates", "weight")

    def __init__(self, node_id: str, updates: Sequence[ReportedStatus], weight: int) -> None:
        self.node_id = node_id
        self.updates = updates
        self.weight = weight
        self.receipt = Receipt()


class Reports:
    """The queue. Bounded by its callers: one submission of at most 1,000 statuses a session at a time."""

    def __init__(self, store: Store, *, now: Callable[[], float], leader_id: Callable[[], str]) -> None:
        self._store = store
        self._now = now
        self._leader_id = leader_id
        self._bell = Bell()
        self._queue: deque[_Submission] = deque()
        self._in_flight: list[_Submission] = []
        self._closed: SwarmError | None = None

    async def submit(self, node_id: str, updates: Sequence[ReportedStatus]) -> None:
        """Return once the statuses are committed (or told nothing new). `Cancelled`: they may be committed yet.

        Raises what the store raises; the node reports again then.
        """
        submissions = [_Submission(node_id, piece, weight) for piece, weight in _pieces(updates)]
        for submission in submissions:
            if self._closed is not None:
                submission.receipt.settle(self._closed)
            else:
                self._queue.append(submission)
                self._bell.ring()
        for submission in submissions:
            await submission.receipt.wait()

    def close(self, error: SwarmError) -> None:
        """Nothing more will be written: everybody who waits, or comes later, is told why."""
        self._closed = error
        for submission in [*self._in_flight, *self._queue]:
            submission.receipt.settle(error)
        self._queue.clear()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._bell.wait()
            while self._queue:
                self._in_flight = self._next_batch()
                error: SwarmError | None = None
                try:
                    await self._store.update(partial(self._record, self._in_flight), actor=ACTOR, fenced=True)
                except SwarmError as caught:
                    # The callers' error, not ours: each node learns it and reports again.
                    error = caught
                for submission in self._in_flight:
                    submission.receipt.settle(error)
                self._in_flight = []

    def _next_batch(self) -> list[_Submission]:
        batch: list[_Submission] = []
        count, weight = 0, 0
        while self._queue:
            following = self._queue[0]
            count, weight = count + len(following.updates), weight + following.weight
            if batch and (count > REPORTS_PER_WRITE_MAX or weight > REPORT_BYTES_PER_WRITE_MAX):
                break
            batch.append(self._queue.popleft())
        return batch

    def _record(self, batch: list[_Submission], tx: Transaction) -> None:
        now, leader_id = self._now(), self._leader_id()
        for (node_id, task_id), status in _latest(batch).items():
            task = tx.task(task_id, unchecked=True)
            if task is None or task.node_id != node_id or not _is_news(status, task.status):
                continue
            tx.report(node_id, task_id, msgspec.structs.replace(status, applied_by=leader_id, applied_at=now))


def _pieces(updates: Sequence[ReportedStatus]) -> Iterator[tuple[list[ReportedStatus], int]]:
    """`updates` with their texts cut, in pieces that fit into one entry, each with its weight in bytes."""
    piece: list[ReportedStatus] = []
    size = 0
    for update in updates:
        status = update.status
        if len(status.message) > TEXT_LENGTH_MAX or len(status.err) > TEXT_LENGTH_MAX:
            status = msgspec.structs.replace(
                status, message=status.message[:TEXT_LENGTH_MAX], err=status.err[:TEXT_LENGTH_MAX]
            )
            update = msgspec.structs.replace(update, status=status)
        weight = _STATUS_BYTES + len(status.message.encode()) + len(status.err.encode())
        if status.container is not None:
            weight += len(status.container.container_id.encode())
        if piece and size + weight > REPORT_BYTES_PER_WRITE_MAX:
            yield piece, size
            piece, size = [], 0
        piece.append(update)
        size += weight
    if piece:
        yield piece, size


def _latest(batch: list[_Submission]) -> dict[tuple[str, str], TaskStatus]:
    """The last word on each task; a state never falls, even inside one batch."""
    latest: dict[tuple[str, str], TaskStatus] = {}
    for submission in batch:
        for update in submission.updates:
            key = (submission.node_id, update.task_id)
            earlier = latest.get(key)
            if earlier is None or update.status.state >= earlier.state:
                latest[key] = update.status
    return latest


def _is_news(status: TaskStatus, stored: TaskStatus) -> bool:
    if status.state < stored.state:
        return False
    bare = msgspec.structs.replace(stored, applied_by="", applied_at=0.0)
    return bare != msgspec.structs.replace(status, applied_by="", applied_at=0.0)
