"""One simulated manager: a core, a machine, a disk, and the driver that does what `Ready` says."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from swarmd.errors import SwarmError
from swarmd.raft import Message, MessageType, RaftCore, Ready, SnapshotMeta
from tests.simulation.disk import Disk, Write
from tests.simulation.machine import Machine

if TYPE_CHECKING:
    from tests.simulation.world import World

WriteDone = Callable[[bool], None]
QUIET_MS = 20


class SimulatedMember:
    """Lives, crashes and comes back with what its disk kept."""

    def __init__(self, world: World, member_id: int, disk: Disk) -> None:
        self.world = world
        self.member_id = member_id
        self.disk = disk
        self.life = 0
        self.is_up = False
        self._deferred: list[Callable[[], None]] | None = None
        self.tick_ms = 100.0
        self.core: RaftCore
        self.machine: Machine
        self._writes: dict[int, tuple[int, WriteDone]] = {}
        self._reads: dict[int, Callable[[int], None]] = {}
        self._reads_waiting: list[tuple[int, int]] = []
        self._commit_seen = 0
        self._reign_seen = 0
        """The last term in which it was seen to lead and commit."""
        self._syncing = False
        self._next_context = 0
        self._snapshotting = False
        self._is_refused = False

    # -- life ------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Begin a life from what the disk has."""
        self.life += 1
        self.is_up = True
        disk = self.disk
        self.machine = self.world.machine_factory()
        self.world.witness.forget(self.member_id)
        if disk.snapshot.index:
            self.machine.restore(disk.snapshot, disk.snapshots[disk.snapshot.index])
        self.core = self.world.core_factory(
            self.member_id,
            self.world.settings,
            random.Random(self.world.rng.getrandbits(64)),
            hard_state=disk.hard_state,
            snapshot=disk.snapshot,
            entries=disk.entries,
        )
        self._commit_seen = self.core.commit
        self._syncing = self._snapshotting = self._is_refused = False
        self.world.after(self.world.rng.uniform(0, self.tick_ms), self._tick, self.life)
        self.drain()

    def crash(self) -> None:
        """Die: everything in memory and what was not synced is gone; callers never hear."""
        if not self.is_up:
            return
        self.is_up = False
        self._deferred = None
        self.world.count["crashes"] += 1
        self.world.count["writes lost"] += self.disk.crash(self.world.rng)
        self._writes.clear()
        self._reads.clear()
        self._reads_waiting.clear()

    def lose_disk(self) -> None:
        """From now on its disk takes nothing. A leader hands over; the end of this life is the caller's affair."""
        self._is_refused = True
        with suppress(SwarmError):
            self.core.transfer_leadership()
        self.drain()

    @property
    def is_paused(self) -> bool:
        """Whether it is stopped, and goes on later with everything that waits for it."""
        return self._deferred is not None

    def pause(self) -> None:
        """Stop, as on SIGSTOP: what arrives, and what the disk has done, waits."""
        if self._deferred is None:
            self._deferred = []

    def resume(self) -> None:
        """Go on where it stopped."""
        waiting, self._deferred = self._deferred or [], None
        for action in waiting:
            action()

    def _waits(self, action: Callable[..., None], *arguments: Any) -> bool:
        if self._deferred is None:
            return False
        self._deferred.append(partial(action, *arguments))
        return True

    def _lives(self, life: int) -> bool:
        return self.is_up and life == self.life

    def _tick(self, life: int) -> None:
        if self._lives(life) and not self._waits(self._tick, life):
            self.world.after(self.tick_ms, self._tick, life)
            self.core.tick()
            self.drain()

    # -- input -----------------------------------------------------------------------------------------------------
    def receive(self, message: Message, data: bytes) -> None:
        """A message arrived; a snapshot is stepped only once its data is durable."""
        if not self.is_up or self._waits(self.receive, message, data):
            return
        if message.type is MessageType.SNAPSHOT and message.snapshot is not None:
            meta, life = message.snapshot, self.life
            write = Write(snapshot=meta, snapshot_data=data, done=lambda: self._step_installed(message, life))
            self._submit(write)
            self.world.nemesis.saw("snapshot", self)
            return
        self.core.step(message)
        self.drain()

    def _step_installed(self, message: Message, life: int) -> None:
        if self._lives(life):
            self.core.step(message)

    def transfer_ended(self, target: int, delivered: bool) -> None:
        """A snapshot that it sent has arrived, or never will."""
        if self.is_up and not self._waits(self.transfer_ended, target, delivered):
            self.core.report_snapshot(target, delivered=delivered)
            self.drain()

    def lost_sight_of(self, target: int) -> None:
        """Messages to this member were lost, and its connection says so."""
        if self.is_up and not self._waits(self.lost_sight_of, target):
            self.core.report_unreachable(target)
            self.drain()

    def write(self, body: bytes, done: WriteDone) -> None:
        """Propose; `done` hears whether it took effect, or nothing for ever. Raises what the core raises."""
        index, term = self.core.propose([body])
        self._writes[index] = (term, done)

    def read(self, done: Callable[[int], None]) -> None:
        """Ask for a read point; `done` is called once the machine is there (with -1 if refused)."""
        self._next_context += 1
        self._reads[self._next_context] = done
        self.core.read_index(self._next_context)
        self.drain()

    # -- what Ready says -------------------------------------------------------------------------------------------
    def drain(self) -> None:
        """Do everything the core asks, then check what must always hold."""
        core = self.core
        while self.is_up and core.has_ready():
            was_leading = self.world.leading.get(self.member_id)
            ready = core.take_ready()
            if ready.leader == self.member_id and was_leading != (self.life, ready.term):
                self.world.leading[self.member_id] = (self.life, ready.term)
                self.world.invariants.led(core)
                self.world.nemesis.saw("elected", self)
            self._obey(ready)
        if self.is_up:
            self._check()

    def _obey(self, ready: Ready) -> None:
        for message in ready.messages:
            self._send(message)
        if ready.hard_state or ready.entries or ready.after_persist or ready.snapshot:
            self._submit(
                Write(
                    hard_state=ready.hard_state,
                    entries=ready.entries,
                    install=ready.snapshot,
                    after=ready.after_persist,
                )
            )
        if ready.snapshot is not None:
            self._install(ready.snapshot)
        for entry in ready.committed:
            took_effect = self.machine.apply(entry)
            self.world.invariants.applied(entry, self.machine.digest)
            self.world.witness.applied(self.member_id, self.machine, self.core.configuration)
            if took_effect:
                self.world.clients.applied(entry.index, entry.body)
            self._settle(entry.index, entry.term, took_effect=took_effect)
        if ready.committed:
            self.core.applied(self.machine.index)
            self._consider_snapshot()
        self._reads_waiting += [(read.index, read.context) for read in ready.reads]
        self._serve_reads()

    def _install(self, meta: SnapshotMeta) -> None:
        self.world.count["snapshots installed"] += 1
        self.machine.restore(meta, self.disk.snapshots[meta.index])
        self.world.witness.forget(self.member_id)
        for index in [index for index in self._writes if index <= meta.index]:
            del self._writes[index]  # compacted: their fate stays unknown
        self.core.applied(meta.index)

    def _settle(self, index: int, term: int, *, took_effect: bool) -> None:
        if index in self._writes:
            proposed_in, done = self._writes.pop(index)
            done(took_effect and proposed_in == term)

    def _serve_reads(self) -> None:
        served = [pair for pair in self._reads_waiting if pair[0] <= self.machine.index]
        self._reads_waiting = [pair for pair in self._reads_waiting if pair[0] > self.machine.index]
        for index, context in served:
            self._reads.pop(context)(index)

    def _send(self, message: Message) -> None:
        data = b""
        if message.entries:
            self.world.invariants.recorded(message.log_term, message.entries)
        if message.snapshot is not None:
            data = self.disk.snapshots[message.snapshot.index]
            self.world.nemesis.saw("snapshot", self)
        self.world.send(message, data)

    # -- disk ------------------------------------------------------------------------------------------------------
    def _submit(self, write: Write) -> None:
        self.disk.submit(write)
        if not self._syncing:
            self._begin_sync()

    def _begin_sync(self) -> None:
        self._syncing = True
        self.world.after(self.world.disk_delay(), self._synced, self.life, len(self.disk.waiting))

    def _synced(self, life: int, count: int) -> None:
        if not self._lives(life) or self._is_refused or self._waits(self._synced, life, count):
            return
        self._syncing = False
        for write in self.disk.sync(count):
            if write.entries:
                self.world.invariants.recorded(None, write.entries)
            self.world.nemesis.saw("persist", self)
            if not self._lives(life):
                return  # it died between persist and send
            self._announce(write)
        if self.disk.waiting:
            self._begin_sync()
        self.drain()

    def _announce(self, write: Write) -> None:
        for message in write.after:
            self._send(message)
            if message.type is MessageType.VOTE_REPLY:
                self.world.nemesis.saw("vote", self)
        if write.entries:
            self.core.persisted(write.entries[-1].index, write.entries[-1].term)
        if write.done is not None:
            write.done()

    def _consider_snapshot(self) -> None:
        every = self.world.faults.snapshot_every
        if every and not self._snapshotting and self.machine.index - self.core.snapshot.index >= every:
            self._snapshotting = True
            meta = self.core.snapshot_meta(self.machine.index)
            self.world.invariants.snapshot(meta)
            keep_from = max(1, meta.index - self.world.faults.keep_entries)
            self._submit(
                Write(
                    snapshot=meta,
                    snapshot_data=self.machine.capture(),
                    keep_from=keep_from,
                    done=lambda: self._snapshot_done(meta),
                )
            )

    def _snapshot_done(self, meta: SnapshotMeta) -> None:
        self._snapshotting = False
        self.world.count["snapshots taken"] += 1
        self.core.compact(meta, keep_entries=self.world.faults.keep_entries)

    def _check(self) -> None:
        core = self.core
        assert core.commit >= self._commit_seen, f"commit of {self.member_id} retreated to {core.commit}"
        if core.commit != self._commit_seen:
            self._commit_seen = core.commit
            self.world.invariants.committed(core.term, core.commit)
            if core.is_leader:
                self.world.invariants.committed_by_leader(core)
            if core.is_leader and self._reign_seen != core.term:
                self._reign_seen = core.term
                self.world.nemesis.saw("commit", self)  # the first of its reign: what it may commit is subtle (5.4.2)
            if core.is_leader:
                self.world.after(QUIET_MS, self._announce_commit, self.life)

    def _announce_commit(self, life: int) -> None:
        if self._lives(life) and not self.is_paused:
            self.core.announce_commit()
            self.drain()
