"""Keeps the audit trail beside the running log: the loop that applies only queues references, a thread does the rest.

Nothing here may stop or slow a manager. What cannot be told in full is told as a gap; what a crash takes is derived
from the log again, since a snapshot is not recorded before the trail is durable up to it (`once_kept`).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol, TypeVar

import trio

from swarmd.errors import Unavailable
from swarmd.manager.audit.counted import may_count
from swarmd.manager.audit.derive import derive
from swarmd.manager.audit.notes import Notes, note
from swarmd.manager.peer_address import host_of
from swarmd.state.command import Command, Outcome
from swarmd.state.history import Change
from swarmd.state.store import State
from swarmd.storage.audit_store import AuditStore, Part, Row
from swarmd.storage.errors import StorageDamaged, StorageFailed
from swarmd.wire.audit import GAP, AuditRecord

log = logging.getLogger(__name__)

T = TypeVar("T")

GATHER_S: Final = 0.05
"""What comes within so long is written together."""
RETRY_S: Final = 30.0
CLOSE_S_MAX: Final = 2.0
BATCH_MAX: Final = 64
"""Entries in one write: some milliseconds of a thread that shares the interpreter."""
PENDING_MAX: Final = 20_000
PENDING_BYTES_MAX: Final = 32 << 20
"""Entries that wait to be written, by number and by the size of their bodies. Beyond, they become a gap."""
NOTES_WAITING_MAX: Final = 1000


class Opening(Protocol):
    """Opens the file, or begins it anew and says what was moved aside; see `audit_store.open_or_begin`. Blocking."""

    def __call__(self) -> tuple[AuditStore, str]: ...


class InThread(Protocol):
    """Runs blocking work, one piece at a time."""

    async def __call__(self, work: Callable[[], T]) -> T: ...


class Gap(NamedTuple):
    """Entries `first` to `last`, of which there will be no record."""

    last: int
    first: int
    why: str
    at: float
    size: int = 0


class _Entry(NamedTuple):
    """An applied entry, as references to what apply had in its hands."""

    last: int
    command: Command
    outcome: Outcome
    changes: Collection[Change]
    size: int


class AuditLog:
    """One manager's trail; a `Tap` of its state. All methods are called from the Trio thread.

    Until `open`, only notes are taken, in memory.

    Args:
        now: epoch seconds, for notes and gaps.
    """

    def __init__(self, *, now: Callable[[], float], in_thread: InThread | None = None) -> None:
        self._now = now
        self._in_thread: InThread = _one_thread() if in_thread is None else in_thread
        self._opening: Opening | None = None
        self._store: AuditStore | None = None
        self._state: State | None = None
        self._pending: deque[_Entry | Gap] = deque()
        self._pending_bytes = 0
        self._lost_from = 0
        """The first entry that had no room in the queue, or 0."""
        self._kept = 0
        """Up to which entry the file tells, as far as was written in this life."""
        self._is_durable_to = 0
        self._notes = Notes()
        self._asked: list[tuple[int, bool, Callable[[], None]]] = []
        self._problem = ""
        self._wake = trio.Event()

    # -- what others tell ------------------------------------------------------------------------------------------

    def note(self, what: str, actor: str, address: str, result: str) -> None:
        """Remember something that only this manager knows: a refused call, a wrong key. At most 10 a second."""
        self._notes.add(note(what, actor, address, result, at=self._now()), monotonic=trio.current_time())
        if self._store is None:
            self._notes.drop_beyond(NOTES_WAITING_MAX)
        self._wake.set()

    def note_repeated(self, what: str, actor: str, address: str, result: str) -> None:
        """Remember what somebody may try again and again, and is refused unseen: once a minute for each host, with how
        often it was."""
        record = note(what, actor, address, result, at=self._now())
        self._notes.add_repeated(record, host_of(address), monotonic=trio.current_time())
        self._wake.set()

    def applied(
        self, index: int, command: Command, outcome: Outcome, changes: Collection[Change], body_bytes: int
    ) -> None:
        """The state's tap: on the way of every write."""
        if index <= self._kept or not may_count(command):
            return
        if self._lost_from:
            return
        if len(self._pending) >= PENDING_MAX or self._pending_bytes > PENDING_BYTES_MAX:
            self._lost_from = index
            return
        self._pending.append(_Entry(index, command, outcome, changes, body_bytes))
        self._pending_bytes += body_bytes
        self._wake.set()

    def restored(self, before: int, index: int) -> None:
        """The state's tap: entries came as a snapshot."""
        first = max(before, self._kept) + 1
        if self._lost_from:
            first, self._lost_from = self._lost_from, 0
        if index >= first:
            self._pending.append(Gap(index, first, "they came as a snapshot", self._now()))
            self._wake.set()

    def once_kept(self, index: int, call: Callable[[], None], *, durably: bool = True) -> None:
        """Call `call` when the file tells of everything up to `index`, or at once while it cannot be written."""
        known = self._is_durable_to if durably else self._kept
        if self._store is None or known >= index:
            call()
            return
        self._asked.append((index, durably, call))
        self._wake.set()

    # -- life ------------------------------------------------------------------------------------------------------

    async def open(self, opening: Opening, state: State) -> None:
        """Open the file and follow `state` from here on. A file that cannot be opened is tried again by `run`."""
        self._opening, self._state, self._kept = opening, state, 0
        self._is_durable_to = 0
        try:
            await self._in_thread(partial(self._ensure_open, state.index, "they came as a snapshot"))
        except StorageFailed as error:
            self._failed(error)
        state.tap = self

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled; then what waits is written still, within 2 s, and the file closed."""
        task_status.started()
        try:
            while True:
                with trio.move_on_at(self._notes.due_at):
                    await self._wake.wait()
                self._wake = trio.Event()
                await trio.sleep(RETRY_S if self._problem else GATHER_S)
                await self._write_all()
        finally:
            await self._close()

    async def _close(self) -> None:
        with trio.move_on_after(CLOSE_S_MAX) as scope:
            scope.shield = True
            if not self._problem:
                await self._write_all()
            store, self._store = self._store, None
            if store is not None:
                await self._in_thread(store.close)
        if self._state is not None:
            self._state.tap = None

    # -- writing ---------------------------------------------------------------------------------------------------

    async def _write_all(self) -> None:
        try:
            while await self._write_some():
                pass
        except (StorageFailed, StorageDamaged) as error:
            self._failed(error)
            self._wake.set()
        else:
            if self._problem:
                log.info("the audit trail goes on")
                self._problem = ""

    async def _write_some(self) -> bool:
        """One batch; whether there is more to do. What waits stays until it is written."""
        state = self._state
        if state is None:
            return False
        batch = [self._pending[position] for position in range(min(BATCH_MAX, len(self._pending)))]
        notes = self._notes.waiting(monotonic=trio.current_time())
        is_all = len(batch) == len(self._pending)
        if is_all and self._lost_from:
            self._pending.append(Gap(state.index, self._lost_from, "there were too many at once", self._now()))
            self._lost_from = 0
            return True
        upto = state.index if is_all else batch[-1].last
        durably = any(wanted for _, wanted, _ in self._asked)
        if not (batch or notes or self._asked):
            return False
        await self._in_thread(partial(self._write, batch, notes, upto, durably=durably))
        for item in batch:
            self._pending.popleft()
            self._pending_bytes -= item.size
        self._notes.written(len(notes))
        self._kept = max(self._kept, upto)
        if durably:
            self._is_durable_to = self._kept
        self._answer()
        return not is_all

    def _write(self, batch: Sequence[_Entry | Gap], notes: Sequence[AuditRecord], upto: int, *, durably: bool) -> None:
        """Blocking."""
        for may_begin_anew in (True, False):
            store = self._ensure_open(self._kept, "what was written of them was lost")
            records = [record for item in batch if item.last > store.index and (record := _record(item)) is not None]
            try:
                store.write(records, notes, upto, durably=durably)
                return
            except StorageDamaged:
                self._drop_store()
                if not may_begin_anew:
                    raise

    def _ensure_open(self, behind: int, why: str) -> AuditStore:
        """The open file, which tells of everything up to entry `behind`, if only by a gap. Blocking."""
        if self._store is not None:
            return self._store
        assert self._opening is not None
        store, moved = self._opening()
        try:
            if store.index < behind:
                reason = f"what was kept of them is in {moved}, which is damaged" if moved else why
                gap = Gap(behind, store.index + 1, reason, self._now())
                store.write([_gap_record(gap)], (), behind, durably=False)
        except BaseException:
            store.close()
            raise
        self._store = store
        self._kept = max(self._kept, store.index)
        return store

    def _drop_store(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close()

    def _failed(self, error: Exception) -> None:
        """The disk refuses: one line, and another try later. Who waits is let go: nothing may wait for this file."""
        if not self._problem:
            log.warning("the audit trail stops until its file can be written, next try in %.0f s: %s", RETRY_S, error)
        self._problem = str(error)
        self._drop_store()
        asked, self._asked = self._asked, []
        for _, _, call in asked:
            call()

    def _answer(self) -> None:
        done = [item for item in self._asked if (self._is_durable_to if item[1] else self._kept) >= item[0]]
        self._asked = [item for item in self._asked if item not in done]
        for _, _, call in done:
            call()

    # -- reading ---------------------------------------------------------------------------------------------------

    async def until_written(self) -> None:
        """Return once what is applied by now can be read, or cannot be written anyway."""
        ready = trio.Event()
        self.once_kept(self._state.index if self._state is not None else 0, ready.set, durably=False)
        await ready.wait()

    async def read(self, part: Part, *, after: int = 0) -> tuple[Row, ...]:
        """A page of what is kept, oldest first; see `AuditStore.read`. Raises `Unavailable`."""
        return await self._read(lambda store: store.read(part, after=after))

    async def read_back(self, part: Part, *, before: int | None) -> tuple[Row, ...]:
        """A page of what is kept, newest first; see `AuditStore.read_back`. Raises `Unavailable`."""
        return await self._read(lambda store: store.read_back(part, before=before))

    async def _read(self, look: Callable[[AuditStore], T]) -> T:
        def work() -> T:
            store = self._store
            if store is None:
                raise StorageFailed(self._problem or "it is not open")
            return look(store)

        try:
            return await self._in_thread(work)
        except (StorageFailed, StorageDamaged) as error:
            raise Unavailable(
                f"this manager's audit trail cannot be read: {error}", hint="ask another manager: theirs tells the same"
            ) from error

    async def reseal(self) -> None:
        """Return when nothing in the file names an old data key. Raises `StorageFailed`, `StorageDamaged`."""
        for part in Part:
            after: int | None = 0
            while after is not None:
                after = await self._in_thread(partial(self._reseal_some, part, after))

    def _reseal_some(self, part: Part, after: int) -> int | None:
        store = self._ensure_open(self._kept, "what was written of them was lost")
        return store.reseal(part, after=after)


def _record(item: _Entry | Gap) -> AuditRecord | None:
    if isinstance(item, Gap):
        return _gap_record(item)
    try:
        return derive(item.last, item.command, item.outcome, item.changes)
    except Exception:  # a defect in what tells of a change must not end what makes them
        log.exception("entry %d could not be told of in the audit trail", item.last)
        return _gap_record(Gap(item.last, item.last, "it could not be put into words", item.command.at))


def _gap_record(gap: Gap) -> AuditRecord:
    what = f"entries {gap.first}..{gap.last} are not told of: {gap.why}"
    return AuditRecord(index=gap.last, at=gap.at, actor="", result=GAP, what=what)


def _one_thread() -> InThread:
    limiter = trio.CapacityLimiter(1)

    async def run(work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=limiter)

    return run
