"""Managers in one process and in virtual time: real cores, drivers, states and snapshots over a loopback network.

Disks are in memory and survive `stop`; the network delivers in order after `LATENCY_S`, unless members are cut off.
Run it under `autojump_clock`.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import msgspec
import trio

from swarmd.errors import SwarmError, Unavailable
from swarmd.manager.raft_door import RaftDoor
from swarmd.manager.raft_driver import RaftDriver
from swarmd.manager.snapshots import Snapshots
from swarmd.manager.update import ReplicatedStore
from swarmd.model import Role
from swarmd.raft import (
    ChangeKind,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Member,
    MembershipChange,
    Message,
    RaftCore,
    Settings,
    SnapshotMeta,
    encode_change,
)
from swarmd.state.store import State
from swarmd.storage.memory import InlineLogWriter, MemoryLogStore, MemorySnapshotStore
from swarmd.transport.connection import Call
from swarmd.wire.identity import Caller, Identity
from swarmd.wire.peer import Nothing, SnapshotChunk
from swarmd.wire.raft_codec import EntryRun, encode_message, encode_runs
from tests.unit.manager.local_store import EPOCH
from tests.unit.manager.swarm_fixture import SWARM, call_of

T = TypeVar("T")

LATENCY_S = 0.001


def node_of(member_id: int) -> str:
    """The node that a member is."""
    return f"node-{member_id}"


def member(member_id: int, *, is_voter: bool = True) -> Member:
    """A member that answers at one address."""
    return Member(
        member_id=member_id, node_id=node_of(member_id), addresses=(f"10.0.0.{member_id}:4242",), is_voter=is_voter
    )


def identity_of(member_id: int) -> Identity:
    """What its certificate says."""
    return Identity(node_id=node_of(member_id), role=Role.MANAGER, swarm_id=SWARM)


def founded_by(member_ids: Sequence[int]) -> MemoryLogStore:
    """A disk with a log that says: these are the voters."""
    changes = [
        MembershipChange(kind=kind, member=member(member_id))
        for member_id in member_ids
        for kind in (ChangeKind.ADD_LEARNER, ChangeKind.PROMOTE)
    ]
    entries = [Entry(index, 1, EntryKind.CONFIG, encode_change(change)) for index, change in enumerate(changes, 1)]
    store = MemoryLogStore()
    store.hard_state = HardState(term=1, commit=len(entries))
    store.runs = encode_runs(entries)
    return store


async def inline(work: Callable[[], T]) -> T:
    """Blocking work that virtual time cannot leap over."""
    await trio.lowlevel.checkpoint()
    return work()


class FakeManager:
    """One member: what it has on its disks, and, while it runs, its driver and what is built on it."""

    def __init__(self, cluster: Cluster, member_id: int, disk: MemoryLogStore) -> None:
        self.cluster = cluster
        self.member_id = member_id
        self.disk = disk
        self.snapshot_files = MemorySnapshotStore()
        self.hint = Configuration()
        self.boots = 0
        self.scope: trio.CancelScope | None = None
        self.driver: RaftDriver
        self.store: ReplicatedStore
        self.snapshots: Snapshots
        self.door: RaftDoor
        self.failure: Exception | None = None

    @property
    def is_running(self) -> bool:
        return self.scope is not None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self.boots += 1
        rng = random.Random(self.member_id * 1000 + self.boots)
        stored, state = self.disk.reopen().load(), State(results_max=self.cluster.results_max)
        if stored.snapshot.index:
            state.restore(stored.snapshot, self.snapshot_files.read(stored.snapshot))
        core = RaftCore(
            self.member_id,
            Settings(),
            rng,
            hard_state=stored.hard_state,
            snapshot=stored.snapshot,
            entries=stored.entries,
        )
        writer = InlineLogWriter(self.disk)
        self.snapshots = Snapshots(
            self.snapshot_files,
            newest=stored.snapshot,
            interval=lambda: self.cluster.snapshot_interval,
            dial=self._dial,
            on_saved=self._snapshot_saved,
            on_sent=lambda member_id, delivered: self.driver.snapshot_sent(member_id, delivered=delivered),
            on_received=lambda message: self.driver.receive(message),
            in_thread=inline,
        )
        self.driver = RaftDriver(core, state, cast("Any", writer), self, self.snapshots)
        self.store = ReplicatedStore(
            self.driver, member_id=self.member_id, boot_id=rng.randbytes(16), now=lambda: EPOCH, rng=rng
        )
        self.door = RaftDoor(self.driver, self.snapshots, lambda: self.hint)
        writer.start()
        try:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    await nursery.start(self.snapshots.run)
                    await nursery.start(self.driver.run)
                    self.scope = scope
                    task_status.started()
        except* Exception as group:  # noqa: BLE001 - told at the end of the test
            self.failure = group.exceptions[0]
        finally:
            self.scope = None
            with trio.CancelScope(shield=True):
                await writer.aclose()

    def stop(self) -> None:
        """kill -9."""
        assert self.scope is not None
        self.scope.cancel()

    def _snapshot_saved(self, meta: SnapshotMeta) -> None:
        self.driver.snapshot_saved(meta, keep_entries=self.cluster.keep_entries, recorded=lambda: None)

    # -- the outbox ------------------------------------------------------------------------------------------------

    def post(self, message: Message, runs: Sequence[EntryRun] = ()) -> bool:
        return self.cluster.deliver(self.member_id, message.target, encode_message(message, tuple(runs)))

    def follow(self, configuration: Configuration) -> None:
        """Everybody can reach everybody."""

    # -- snapshots to others ---------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _dial(self, member_id: int) -> AsyncIterator[Any]:
        await trio.sleep(LATENCY_S)
        other = self.cluster.managers.get(member_id)
        if other is None or not other.is_running or not self.cluster.is_open(self.member_id, member_id):
            raise Unavailable(f"member {member_id} cannot be reached")
        yield _BulkConnection(self, other)


class _BulkConnection:
    def __init__(self, source: FakeManager, target: FakeManager) -> None:
        self._source = source
        self._target = target

    @asynccontextmanager
    async def open(self, method: object) -> AsyncIterator[_SnapshotStream]:
        yield _SnapshotStream(self._source, self._target)


class _SnapshotStream:
    """The sender's end; the receiver's handler runs when the sender waits for the answer."""

    def __init__(self, source: FakeManager, target: FakeManager) -> None:
        self._source = source
        self._target = target
        self._chunks: list[SnapshotChunk] = []

    async def send(self, chunk: SnapshotChunk) -> None:
        await trio.sleep(LATENCY_S)
        if not self._source.cluster.is_open(self._source.member_id, self._target.member_id):
            raise Unavailable("the connection is gone")
        self._chunks.append(chunk)

    async def end(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive(self) -> Nothing:
        first, *rest = self._chunks
        incoming = cast("Any", _Incoming(rest))
        caller = Caller(identity=identity_of(self._source.member_id))
        return await self._target.door.snapshot(call_of(caller), first, incoming)


class _Incoming:
    def __init__(self, chunks: list[SnapshotChunk]) -> None:
        self._chunks = chunks

    async def receive(self) -> SnapshotChunk:
        await trio.lowlevel.checkpoint()
        if not self._chunks:
            raise trio.EndOfChannel
        return self._chunks.pop(0)


class Cluster:
    """Members 1..n. Managers are started by `open_cluster` and may be stopped, started again, cut off and added."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.managers: dict[int, FakeManager] = {}
        self.snapshot_interval = 1_000_000
        self.keep_entries = 0
        self.results_max = 1000
        self.nodes: dict[int, str] = {}
        """Which node a member is, where it is not `node_of` it."""
        self.refused: list[SwarmError] = []
        """What doors said to messages."""
        self._cut_off: set[int] = set()
        self._pipes: dict[tuple[int, int], trio.MemorySendChannel[tuple[float, bytes]]] = {}

    def add(self, member_id: int, disk: MemoryLogStore) -> FakeManager:
        self.managers[member_id] = FakeManager(self, member_id, disk)
        return self.managers[member_id]

    async def start(self, *member_ids: int) -> None:
        for member_id in member_ids:
            await self.nursery.start(self.managers[member_id].run)

    async def stop(self, *member_ids: int) -> None:
        """kill -9, and wait until it is gone."""
        for member_id in member_ids:
            self.managers[member_id].stop()
        while any(self.managers[member_id].is_running for member_id in member_ids):  # noqa: ASYNC110
            await trio.sleep(LATENCY_S)

    def cut_off(self, *member_ids: int) -> None:
        self._cut_off.update(member_ids)

    def heal(self) -> None:
        self._cut_off.clear()

    def is_open(self, source: int, target: int) -> bool:
        return not {source, target} & self._cut_off

    # -- waiting ---------------------------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Let virtual time pass until something is the case."""
        with trio.fail_after(timeout_s):
            while not condition():  # noqa: ASYNC110 - virtual time
                await trio.sleep(0.005)

    async def leader(self, *among: int) -> FakeManager:
        """The manager that leads and may be written to, once one of these (or anybody) is it."""

        def leading() -> list[FakeManager]:
            running = [m for m in self.managers.values() if m.is_running and (not among or m.member_id in among)]
            return [m for m in running if m.driver.is_leading]

        await self.until(lambda: bool(leading()))
        return max(leading(), key=lambda m: m.driver.core.term)

    async def until_applied(self, index: int, *member_ids: int) -> None:
        await self.until(
            lambda: all(m.driver.applied >= index for m in self.managers.values() if m.member_id in member_ids)
        )

    # -- the network -----------------------------------------------------------------------------------------------

    def deliver(self, source: int, target: int, data: bytes) -> bool:
        manager = self.managers.get(target)
        if manager is None or not manager.is_running or not self.is_open(source, target):
            return False
        pipe = self._pipes.get((source, target))
        if pipe is None:
            pipe, out = trio.open_memory_channel[tuple[float, bytes]](10_000)
            self._pipes[source, target] = pipe
            self.nursery.start_soon(self._carry, source, target, out)
        pipe.send_nowait((trio.current_time() + LATENCY_S, data))
        return True

    async def _carry(self, source: int, target: int, out: trio.MemoryReceiveChannel[tuple[float, bytes]]) -> None:
        identity = msgspec.structs.replace(identity_of(source), node_id=self.nodes.get(source, node_of(source)))
        call: Call = call_of(Caller(identity=identity))
        async for at, data in out:
            await trio.sleep_until(at)
            manager = self.managers[target]
            if not manager.is_running or not self.is_open(source, target):
                continue
            try:
                manager.door.messages(call)(data)
            except SwarmError as error:
                self.refused.append(error)


@asynccontextmanager
async def open_cluster(size: int = 3, *, results_max: int = 1000) -> AsyncIterator[Cluster]:
    """A cluster whose members know each other as voters and all run."""
    async with trio.open_nursery() as nursery:
        cluster = Cluster(nursery)
        cluster.results_max = results_max
        member_ids = range(1, size + 1)
        for member_id in member_ids:
            cluster.add(member_id, founded_by(member_ids))
        await cluster.start(*member_ids)
        yield cluster
        nursery.cancel_scope.cancel()
    failures = [m.failure for m in cluster.managers.values() if m.failure is not None]
    assert not failures, failures
