"""Stores that keep everything in memory, and a log writer without a thread: for tests in virtual time.

Held to the same contract suites as the real ones (`tests/contract/storage`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import trio

from swarmd.errors import Invalid
from swarmd.model import Task, TaskStatus
from swarmd.raft import HardState, SnapshotMeta
from swarmd.storage.errors import StorageDamaged, StorageFailed, StorageFull
from swarmd.storage.log_contract import LogBatch, LogIdentity, LogStorage, Resealed, StoredLog, runs_to_write
from swarmd.storage.log_writer import Done
from swarmd.wire.raft_codec import EntryRun, decode_run, trim_run


class MemoryLogStore:
    """A `LogStorage` whose disk is this object: it survives `close` and `reopen`.

    `fail_with(error)` makes every later change raise `error` and leave nothing, as a full disk would, until `reopen`.
    """

    def __init__(self) -> None:
        self.identity: LogIdentity | None = None
        self.hard_state = HardState()
        self.snapshot = SnapshotMeta()
        self.runs: tuple[EntryRun, ...] = ()
        self.writes = 0
        """Successful `write` calls."""
        self._failure: Exception | None = None
        self._is_closed = False

    def fail_with(self, error: Exception | None = None) -> None:
        """From now on the disk refuses, with `StorageFailed` unless another error is given."""
        self._failure = error or StorageFailed("no space left on device")

    def reopen(self) -> MemoryLogStore:
        """The same disk as a restart finds it, in good order again."""
        self._failure = None
        self._is_closed = False
        return self

    def initialise(self, identity: LogIdentity) -> None:
        """See `LogStorage`."""
        self._check_usable()
        if self.identity not in (None, identity):
            raise ValueError("this is another member's log")
        self.identity = identity

    def load(self) -> StoredLog:
        """See `LogStorage`."""
        self._check_usable()
        try:
            entries = tuple(entry for run in self.runs for entry in decode_run(run))
        except Invalid as error:
            raise StorageDamaged(str(error)) from error
        return StoredLog(identity=self.identity, hard_state=self.hard_state, snapshot=self.snapshot, entries=entries)

    def write(self, batch: LogBatch) -> None:
        """See `LogStorage`."""
        self._check_usable()
        last = self.runs[-1].last if self.runs else self.snapshot.index
        runs = runs_to_write(batch.runs, last=last, snapshot=self.snapshot)
        if runs:
            self.runs = (*_before(self.runs, runs[0].first), *runs)
        if batch.hard_state is not None:
            self.hard_state = batch.hard_state
        self.writes += 1

    def record_snapshot(self, meta: SnapshotMeta, *, keep_from: int) -> None:
        """See `LogStorage`."""
        self._check_usable()
        if meta.index < self.snapshot.index:
            return
        agrees = (meta.index, meta.term) == (self.snapshot.index, self.snapshot.term) or any(
            run.first <= meta.index <= run.last and run.term == meta.term for run in self.runs
        )
        bound = min(keep_from, meta.index + 1)
        self.runs = tuple(run for run in self.runs if agrees and run.last >= bound)
        self.snapshot = meta

    def reseal(self, after: int) -> Resealed:
        """Nothing is sealed here."""
        self._check_usable()
        return Resealed(changed=0, after=None)

    def prepare(self) -> None:
        """Nothing makes it faster."""

    def tidy(self) -> None:
        """Nothing is ever put off."""

    def close(self) -> None:
        """See `LogStorage`."""
        self._is_closed = True

    def _check_usable(self) -> None:
        if self._is_closed:
            raise StorageFailed("the log is closed")
        if self._failure is not None:
            raise self._failure


def _before(runs: tuple[EntryRun, ...], first: int) -> Iterator[EntryRun]:
    for run in runs:
        if run.last < first:
            yield run
        elif run.first < first:
            yield trim_run(run, first - 1)


class InlineLogWriter:
    """A `LogWriter` without a thread: each job runs in the Trio thread, in a later step than the call that queued it.

    Virtual time cannot leap over it, as it leaps over a thread.
    """

    def __init__(self, store: LogStorage) -> None:
        self._store = store
        self._failure: BaseException | None = None
        self._queued = 0
        self._idle = trio.Event()

    def start(self) -> None:
        """See `LogWriter`."""
        self._token = trio.lowlevel.current_trio_token()

    def submit(self, batch: LogBatch, done: Done) -> None:
        """See `LogWriter`."""
        self.call(lambda store: store.write(batch), done)

    def call(self, work: Callable[[LogStorage], None], done: Done) -> None:
        """See `LogWriter`."""
        self._queued += 1
        self._token.run_sync_soon(self._run, work, done)

    async def aclose(self) -> None:
        """See `LogWriter`."""
        with trio.CancelScope(shield=True):
            while self._queued:
                self._idle = trio.Event()
                await self._idle.wait()
        self._store.close()

    def _run(self, work: Callable[[LogStorage], None], done: Done) -> None:
        error: BaseException | None = None
        if self._failure is not None:
            kind = StorageFull if isinstance(self._failure, StorageFull) else StorageFailed
            error = kind(f"nothing is written any more after: {self._failure}")
        else:
            try:
                work(self._store)
            except BaseException as raised:  # noqa: BLE001 - it travels on, to `done`
                error = self._failure = raised
        self._queued -= 1
        done(error)
        if not self._queued:
            self._idle.set()


class MemorySnapshotStore:
    """A `SnapshotStorage` in memory."""

    def __init__(self) -> None:
        self.snapshots: dict[SnapshotMeta, tuple[bytes, ...]] = {}

    def save(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> Path:
        """See `SnapshotStore`. The path names nothing."""
        self.snapshots[meta] = tuple(chunks)
        return Path(f"snapshot-{meta.index}-{meta.term}")

    def read(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """See `SnapshotStore`."""
        if meta not in self.snapshots:
            raise StorageDamaged(f"snapshot {meta.index} of term {meta.term} is missing")
        yield from self.snapshots[meta]

    def reseal(self) -> None:
        """Nothing is sealed here."""

    def prune(self, keep: SnapshotMeta) -> None:
        """See `SnapshotStore`."""
        if keep in self.snapshots:
            older = sorted((m for m in self.snapshots if (m.index, m.term) < (keep.index, keep.term)), key=_place)
            for meta in older[:-1]:
                del self.snapshots[meta]


def _place(meta: SnapshotMeta) -> tuple[int, int]:
    return meta.index, meta.term


class MemoryTaskStore:
    """A `TaskStorage` in memory."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.statuses: dict[str, TaskStatus] = {}

    def load(self) -> tuple[Task, ...]:
        """See `TaskStore`."""
        return tuple(self._merged(self.tasks[task_id]) for task_id in sorted(self.tasks))

    def put(self, tasks: Iterable[Task]) -> None:
        """See `TaskStore`."""
        self.tasks.update({task.id: task for task in tasks})

    def put_status(self, updates: Iterable[tuple[str, TaskStatus]]) -> None:
        """See `TaskStore`."""
        self.statuses.update({task_id: status for task_id, status in updates if task_id in self.tasks})

    def remove(self, task_ids: Iterable[str]) -> None:
        """See `TaskStore`."""
        for task_id in task_ids:
            self.tasks.pop(task_id, None)
            self.statuses.pop(task_id, None)

    def close(self) -> None:
        """See `TaskStore`."""

    def _merged(self, task: Task) -> Task:
        return msgspec.structs.replace(task, status=self.statuses.get(task.id, task.status))
