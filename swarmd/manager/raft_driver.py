"""The one task that feeds the Raft core and does what it asks, in `Ready`'s order. See DESIGN.md.

Group commit: while a disk write is in flight, proposals gather; when it is durable they become the next batch, which is
framed once, posted to every follower, and only then written here (performance-raft, rules 1, 2, 6, 8).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import trio

from swarmd.errors import SwarmError, Unavailable
from swarmd.manager.digests.points import DigestPoints
from swarmd.manager.farewell import Farewell
from swarmd.manager.log_disk import LogDisk
from swarmd.manager.raft_neighbours import Outbox, Snapshots
from swarmd.manager.read_points import ReadPoints
from swarmd.manager.restoring import read_in_slices
from swarmd.manager.waiters import Fate, Proposal, Waiters
from swarmd.raft import (
    Configuration,
    Entry,
    EntryKind,
    MembershipChange,
    Message,
    MessageType,
    RaftCore,
    Ready,
    SnapshotMeta,
)
from swarmd.state.command import Command, Outcome, encode_command
from swarmd.state.digest import is_agreed
from swarmd.state.store import State
from swarmd.storage.log_store import LogWriter
from swarmd.wire.raft_codec import EntryRun

log = logging.getLogger(__name__)

TICK_S: Final = 0.1
APPLY_SLICE: Final = 128
APPLY_SLICE_BYTES: Final = 64 << 10
"""Entries applied before other tasks get a turn, ~20 us each; fewer if they are large: one may hold 200 objects."""
PROPOSALS_MAX: Final = 8192
PROPOSAL_S_MAX: Final = 10.0
READ_S_MAX: Final = 10.0
QUIET_S: Final = 0.02
"""After this long without an append, followers are told what is committed by a frame of its own."""


class RaftDriver:
    """One manager's running part in the agreement.

    All methods are called from the Trio thread and none blocks. `run` owns the core; when it ends nothing is agreed
    here any more.
    """

    def __init__(
        self,
        core: RaftCore,
        state: State,
        writer: LogWriter,
        outbox: Outbox,
        snapshots: Snapshots,
    ) -> None:
        self.core = core
        self.state = state
        self.digests = DigestPoints()
        self._disk = LogDisk(writer, self._disk_failed)
        self._farewell = Farewell(core)
        self._outbox = outbox
        self._snapshots = snapshots
        self._wake = trio.Event()
        self._proposals: deque[tuple[bytes, Proposal]] = deque()
        self._waiters = Waiters()
        self._committed: deque[Entry] = deque()
        self._restore: SnapshotMeta | None = None
        self._read_points = ReadPoints(core, wake=lambda: self._wake.set())
        self._failure: Exception | None = None
        self._has_ended = False
        self._is_turning = False
        self._seen: tuple[object, ...] = ()
        self._reign_term = 0
        self._has_heard_leader = False
        """Since the last tick: the clock is not read for each message."""
        self._leader_heard_at: float | None = None
        self.changed = trio.Event()
        """Set, and replaced by a fresh one, at each change of role, leader, term, configuration or reign."""
        self.applied_more = trio.Event()
        """Set, and replaced by a fresh one, each time more was applied."""

    # -- what is the case --------------------------------------------------------------------------------------

    @property
    def applied(self) -> int:
        """Index up to which the state is."""
        return self.state.index

    @property
    def leader(self) -> int:
        """Member id of the leader as known here, or 0."""
        return self.core.leader

    @property
    def is_leading(self) -> bool:
        """Whether this member leads and has applied everything that was committed before its term."""
        return self.core.is_leader and self._reign_term == self.core.term

    @property
    def leader_contact_s(self) -> float | None:
        """Seconds since a leader was heard; on a leader, since a majority answered. None: not since the start."""
        if self.core.is_leader:
            return self.core.ticks_since_majority * TICK_S
        return None if self._leader_heard_at is None else trio.current_time() - self._leader_heard_at

    @property
    def disk_waits_s(self) -> float:
        """For how long the present write has been under way; 0 between writes."""
        return self._disk.ticks_waited * TICK_S

    @property
    def configuration(self) -> Configuration:
        """Who takes part, as the log here says."""
        return self.core.configuration

    # -- what others ask ---------------------------------------------------------------------------------------

    def receive(self, message: Message, runs: tuple[EntryRun, ...] = ()) -> None:
        """A peer's message. `runs` are the bytes its entries came in, kept to be written verbatim."""
        self._guard(self._receive, message, runs)

    def _receive(self, message: Message, runs: tuple[EntryRun, ...]) -> None:
        self._disk.remember(message.entries, runs)
        self.core.step(message)
        if message.source == self.core.leader:
            self._has_heard_leader = True
        self._turn()

    def propose(self, command: Command) -> Proposal:
        """Queue a command; await `fate` on what is returned. Raises `Unavailable` if not leading, or full."""
        self._check_running()
        if not self.core.is_leader:
            raise Unavailable("this manager does not lead", hint="try again: the leader is found anew")
        if len(self._proposals) >= PROPOSALS_MAX:
            raise Unavailable(f"{PROPOSALS_MAX} changes are waiting already", hint="try again in a moment")
        proposal = Proposal(command)
        self._proposals.append((encode_command(command), proposal))
        self._wake.set()
        return proposal

    async def commit(self, command: Command) -> Outcome:
        """Propose and wait until its fate is known here.

        Raises `Unavailable` if it surely did not happen, `OutcomeUnknown` if that cannot be known in time.
        `Cancelled` leaves the outcome unknown.
        """
        proposal = self.propose(command)
        await proposal.done.wait()
        return proposal.result()

    async def change_membership(self, change: MembershipChange, *, force: bool = False) -> int:
        """Propose a membership change and wait until it is committed. Returns its index."""
        self._check_running()
        index, term = self.core.propose_change(change, force=force)
        proposal = Proposal(None)
        self._waiters.expect(proposal, index, term)
        self._wake.set()
        await proposal.done.wait()
        proposal.result()
        return index

    def transfer_leadership(self, target: int = 0) -> int:
        """Hand over to `target`, or to the best follower. Returns to whom; `FailedPrecondition` if there is nobody."""
        chosen = self.core.transfer_leadership(target)
        self._wake.set()
        return chosen

    async def read_index(self) -> None:
        """Return once a read of the local state is linearizable. Raises `Unavailable` within 10 s if it cannot be."""
        with trio.move_on_after(READ_S_MAX):
            while True:
                point = await self._read_points.ask()
                if point is not None:
                    await self.wait_applied(point)
                    return
                await self._wait_for_a_leader()
        if self.leader:
            raise Unavailable("this manager could not confirm in time that its state is current", hint="try again")
        raise Unavailable(self.quorum_arithmetic(), hint="more than half of the managers must be online")

    async def wait_applied(self, index: int) -> None:
        """Return once everything up to `index` is applied here."""
        while self.applied < index:
            await self.applied_more.wait()

    async def _wait_for_a_leader(self) -> None:
        with trio.move_on_after(TICK_S):
            await self.changed.wait()

    def quorum_arithmetic(self) -> str:
        """Why there is no leader, in numbers."""
        voters = len(self.configuration.voters)
        return f"the swarm has no leader: {voters} voting managers, {voters // 2 + 1} of them must reach each other"

    # -- what happens elsewhere --------------------------------------------------------------------------------

    def peer_unreachable(self, member_id: int) -> None:
        """Frames to this member were lost."""
        self.core.report_unreachable(member_id)
        self._wake.set()

    def snapshot_sent(self, member_id: int, *, delivered: bool) -> None:
        """A transfer ended."""
        self.core.report_snapshot(member_id, delivered=delivered)
        self._wake.set()

    def snapshot_saved(self, meta: SnapshotMeta, *, keep_entries: int, recorded: Callable[[], None]) -> None:
        """A snapshot of ours is durable: the log before it may go; `recorded` is called once that is durable too."""
        if self._has_ended or meta.index <= self.core.snapshot.index:
            return  # a newer one came from the leader meanwhile
        self.core.compact(meta, keep_entries=keep_entries)
        self._disk.record_snapshot(meta, keep_from=self.core.first_index, done=lambda: self._guard(recorded))
        self._wake.set()

    # -- the loop ----------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tick and pump until cancelled. Raises `StorageFailed` if the disk refuses, a leader once it handed over."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tick_for_ever)
            nursery.start_soon(self._announce_commits)
            task_status.started()
            try:
                while True:
                    await self._wake.wait()
                    self._wake = trio.Event()
                    self._turn()
                    if self._failure is not None:
                        raise self._failure
                    self._farewell.raise_if_over()
                    await self._do_what_takes_time()
            finally:
                self._abandon_everybody()

    async def _tick_for_ever(self) -> None:
        due = trio.current_time()
        while True:
            due = max(due + TICK_S, trio.current_time() - 3 * TICK_S)  # after a stall: no burst of ticks
            await trio.sleep_until(due)
            self.core.tick()
            self._disk.tick()
            if self._has_heard_leader:
                self._has_heard_leader, self._leader_heard_at = False, trio.current_time()
            # One look a tick at all of them costs less than a cancel scope for each.
            self._expire(trio.current_time() - PROPOSAL_S_MAX)
            self._wake.set()

    def _expire(self, before: float) -> None:
        """Answer whoever waits since `before`; what a stalled disk kept out of the log surely did not happen."""
        while self._proposals and self._proposals[0][1].since < before:
            self._proposals.popleft()[1].refuse(
                Unavailable("the disk of the leader does not take changes in time", hint="try again")
            )
        self._waiters.expire(before)

    async def _announce_commits(self) -> None:
        announced = 0
        while True:
            while self.core.commit == announced:
                await self.applied_more.wait()
            await trio.sleep(QUIET_S)
            announced = self.core.commit
            self.core.announce_commit()
            self._wake.set()

    def _guard(self, step: Callable[..., None], *args: Any) -> None:
        """Do `step` unless this is over. A defect in it ends `run`, and neither a peer's connection nor the writer."""
        if self._failure is not None or self._has_ended:
            return
        try:
            step(*args)
        except Exception as error:  # noqa: BLE001 - raised by `run`
            self._failure = error
            self._wake.set()

    def _turn(self) -> None:
        """Do everything that needs no waiting. Called where something happened: a task hop there is latency here."""
        if self._is_turning or self._failure is not None or self._has_ended:
            self._wake.set()  # whoever is at it, or `run`, sees to the rest
            return
        self._is_turning = True
        try:
            while self._turn_once() and self._failure is None:
                pass
        finally:
            self._is_turning = False

    def _turn_once(self) -> bool:
        """One round; whether another one could do more right now."""
        self._propose_what_waits()
        if self.core.has_ready():
            self._do(self.core.take_ready())
        if self._restore is not None:
            self._wake.set()  # `run` is at it, or will be: the log and the peers do not wait for the state
        elif self._committed:
            self._apply_slice()
            if self._committed:
                self._wake.set()
                return False
        return self.core.has_ready()

    async def _do_what_takes_time(self) -> None:
        if self._restore is not None:
            await self._restore_snapshot(self._restore)
            self._wake.set()
        elif self._snapshots.due(self.applied):
            self._take_snapshot()
        await trio.lowlevel.checkpoint()

    def _propose_what_waits(self) -> None:
        if not self._proposals or self._disk.is_busy:
            return
        batch = list(self._proposals)
        try:
            index, term = self.core.propose([body for body, _ in batch])
        except SwarmError as error:
            self._proposals.clear()
            for _, proposal in batch:
                proposal.refuse(error)
            return
        self._proposals.clear()
        for offset, (_, proposal) in enumerate(batch):
            self._waiters.expect(proposal, index + offset, term)

    def _do(self, ready: Ready) -> None:
        runs = self._disk.runs_of(ready.entries) if ready.entries else ()
        for message in ready.messages:
            self._send(message)
        if ready.snapshot is not None:
            # Before anything that follows it in the log: a gap there could never be closed.
            self._disk.replace_by(ready.snapshot)
            self._restore = ready.snapshot
            self._committed.clear()
        if ready.hard_state is not None or ready.entries or ready.after_persist:
            self._disk.write(ready.hard_state, runs, lambda: self._guard(self._durable, ready))
        self._committed.extend(ready.committed)
        for read in ready.reads:
            self._read_points.answered(read)
        self._note_change(ready)

    def _send(self, message: Message) -> None:
        if message.type is MessageType.SNAPSHOT:
            self._snapshots.send(message)
        elif not self._outbox.post(message, self._disk.runs_of(message.entries) if message.entries else ()):
            self.core.report_unreachable(message.target)

    def _durable(self, ready: Ready) -> None:
        for message in ready.after_persist:
            self._send(message)
        if ready.entries:
            last = ready.entries[-1]
            self.core.persisted(last.index, last.term)
        self._turn()

    def _disk_failed(self, error: BaseException) -> None:
        # A failed fsync may have lost what was already acknowledged: stop taking part.
        self._farewell.begin(error)
        self._wake.set()

    def _note_change(self, ready: Ready) -> None:
        seen = (ready.role, ready.leader, ready.term, self.core.configuration)
        if seen != self._seen:
            if self._seen[:2] != seen[:2]:
                log.info("term %d: %s, leader %x", ready.term, ready.role.name.lower(), ready.leader)
            self._seen = seen
            self._outbox.follow(self.core.configuration)
            self._announce()

    def _announce(self) -> None:
        changed, self.changed = self.changed, trio.Event()
        changed.set()

    # -- applying ----------------------------------------------------------------------------------------------

    def _apply_slice(self) -> None:
        size = 0
        for _ in range(min(APPLY_SLICE, len(self._committed))):
            entry = self._committed.popleft()
            self._apply(entry)
            size += len(entry.body)
            if size >= APPLY_SLICE_BYTES:
                break
        self._applied_up_to(self.state.index)
        if self.core.is_leader and self.core.has_committed_in_term and self._reign_term != self.core.term:
            self._begin_reign_once_caught_up()

    def _begin_reign_once_caught_up(self) -> None:
        """An entry of this term is applied, and so is everything before it: the state is the newest there is."""
        if self.core.term_of(self.applied) == self.core.term:
            self._reign_term = self.core.term
            self._announce()

    def _applied_up_to(self, index: int) -> None:
        self.core.applied(index)
        more, self.applied_more = self.applied_more, trio.Event()
        more.set()

    def _apply(self, entry: Entry) -> None:
        waiter = self._waiters.pop(entry.index)
        mine = waiter is not None and waiter.term == entry.term
        command = waiter.command if mine and waiter is not None else None
        try:
            outcome = self._apply_to_state(entry, command)
        except BaseException:
            if waiter is not None:
                waiter.settle(Fate.UNKNOWN, None)
            raise
        if is_agreed(entry.index):
            self.digests.applied(self.state)
        if waiter is not None:
            waiter.settle(Fate.COMMITTED if mine else Fate.SUPERSEDED, outcome)

    def _apply_to_state(self, entry: Entry, command: Command | None) -> Outcome | None:
        if entry.kind is EntryKind.DATA:
            return self.state.apply(entry.index, entry.term, entry.body, command)
        self.state.skip(entry.index, entry.body)
        return None

    async def _restore_snapshot(self, meta: SnapshotMeta) -> None:
        contents = await read_in_slices(await self._snapshots.chunks(meta), meta)
        if self._restore is not meta:
            return  # a newer one took its place meanwhile
        self.state.adopt(contents)
        self.digests.forget()
        self._restore = None
        self._waiters.compacted(meta.index)
        self._applied_up_to(meta.index)
        log.info("restored the snapshot at index %d", meta.index)

    def _take_snapshot(self) -> None:
        if self.core.term_of(self.applied) is not None:
            self._snapshots.take(self.state, self.core.snapshot_meta(self.applied))

    def _check_running(self) -> None:
        if self._has_ended or self._failure is not None:
            raise Unavailable("this manager is stopping")

    def _abandon_everybody(self) -> None:
        self._has_ended = True
        self._disk.stop()
        for _, proposal in self._proposals:
            proposal.refuse(Unavailable("this manager is stopping"))
        self._proposals.clear()
        self._waiters.abandon()
