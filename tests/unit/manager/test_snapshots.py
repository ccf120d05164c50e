from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing

from swarmd.errors import Invalid, Unavailable
from swarmd.manager.snapshots import RETRY_S, Snapshots
from swarmd.raft import Message, MessageType, SnapshotMeta
from swarmd.state.store import State
from swarmd.storage.errors import StorageDamaged, StorageFailed, StorageFull
from swarmd.storage.memory import MemorySnapshotStore
from swarmd.wire.identity import Caller
from swarmd.wire.peer import Nothing, SnapshotChunk
from tests.unit.manager.raft_cluster import identity_of, inline
from tests.unit.manager.swarm_fixture import call_of

META = SnapshotMeta(index=5, term=2)


def message(meta: SnapshotMeta = META) -> Message:
    return Message(type=MessageType.SNAPSHOT, source=1, target=2, term=2, snapshot=meta)


class Peer:
    """The stream to the member that is sent a snapshot."""

    def __init__(self) -> None:
        self.chunks: list[SnapshotChunk] = []
        self.answers = True
        self.is_reachable = True

    @asynccontextmanager
    async def dial(self, member_id: int) -> AsyncIterator[Peer]:
        if not self.is_reachable:
            raise Unavailable("not there")
        yield self

    @asynccontextmanager
    async def open(self, method: object) -> AsyncIterator[Peer]:
        yield self

    async def send(self, chunk: SnapshotChunk) -> None:
        await trio.lowlevel.checkpoint()
        self.chunks.append(chunk)

    async def end(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive(self) -> Nothing:
        await trio.lowlevel.checkpoint()
        if not self.answers:
            raise trio.EndOfChannel
        return Nothing()


class World:
    def __init__(self, files: MemorySnapshotStore, *, newest: SnapshotMeta = META) -> None:
        self.files = files
        self.peer = Peer()
        self.saved: list[SnapshotMeta] = []
        self.sent: list[tuple[int, bool]] = []
        self.received: list[Message] = []
        self.snapshots = Snapshots(
            files,
            newest=newest,
            interval=lambda: 10,
            dial=cast("Any", self.peer.dial),
            on_saved=self.saved.append,
            on_sent=lambda member_id, delivered: self.sent.append((member_id, delivered)),
            on_received=self.received.append,
            in_thread=inline,
        )

    async def send(self, message: Message) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.snapshots.run)
            self.snapshots.send(message)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    async def receive(self, *chunks: SnapshotChunk) -> Nothing:
        first, *rest = chunks
        stream = cast("Any", _Incoming(list(rest)))
        return await self.snapshots.receive(call_of(Caller(identity=identity_of(1))), first, stream)


class _Incoming:
    def __init__(self, chunks: list[SnapshotChunk]) -> None:
        self._chunks = chunks

    async def receive(self) -> SnapshotChunk:
        await trio.lowlevel.checkpoint()
        if not self._chunks:
            raise trio.EndOfChannel
        return self._chunks.pop(0)


def with_snapshot() -> MemorySnapshotStore:
    files = MemorySnapshotStore()
    files.save(META, [b"one", b"two"])
    return files


async def test_a_snapshot_is_sent_in_order_with_its_message_first() -> None:
    world = World(with_snapshot())
    await world.send(message())
    assert [(c.offset, c.data, c.last, c.message is not None) for c in world.peer.chunks] == [
        (0, b"one", False, True),
        (3, b"two", True, False),
    ]
    assert world.sent == [(2, True)]


async def test_a_state_kept_as_evidence_is_a_file_that_nobody_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    world = World(with_snapshot())
    state, meta = State(), SnapshotMeta(index=7, term=3)
    for index in range(1, 8):
        state.skip(index, b"")
    async with trio.open_nursery() as nursery:
        await nursery.start(world.snapshots.run)
        world.snapshots.keep_as_evidence(state, meta)
        state.skip(8, b"later")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    kept = State()
    kept.restore(meta, world.files.read(meta))
    assert kept.index == 7
    assert world.saved == []
    assert "kept as" in caplog.text


async def test_a_disk_without_room_for_evidence_costs_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    world = World(with_snapshot())

    def save(meta: SnapshotMeta, chunks: object) -> None:
        raise StorageFailed("no space left")

    cast("Any", world.files).save = save
    async with trio.open_nursery() as nursery:
        await nursery.start(world.snapshots.run)
        world.snapshots.keep_as_evidence(State(), SnapshotMeta())
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert "could not be kept: no space left" in caplog.text


async def test_a_member_that_cannot_be_reached_is_told_to_consensus() -> None:
    world = World(with_snapshot())
    world.peer.is_reachable = False
    await world.send(message())
    assert world.sent == [(2, False)]


async def test_a_peer_that_ends_without_an_answer_did_not_store_it() -> None:
    world = World(with_snapshot())
    world.peer.answers = False
    await world.send(message())
    assert world.sent == [(2, False)]


async def test_a_snapshot_that_newer_ones_replaced_meanwhile_is_not_damage() -> None:
    world = World(MemorySnapshotStore(), newest=SnapshotMeta(index=50, term=2))
    await world.send(message())
    assert world.sent == [(2, False)]


async def test_a_newest_snapshot_that_is_gone_is_damage_and_stops_the_manager() -> None:
    world = World(MemorySnapshotStore())
    with pytest.RaisesGroup(StorageDamaged, flatten_subgroups=True):
        await world.send(message())
    assert world.sent == [(2, False)]


async def test_what_is_received_is_durable_before_consensus_hears_of_it() -> None:
    world = World(MemorySnapshotStore(), newest=SnapshotMeta())
    await world.receive(
        SnapshotChunk(offset=0, data=b"one", message=message()), SnapshotChunk(offset=3, data=b"two", last=True)
    )
    assert world.files.snapshots == {META: (b"one", b"two")}
    assert world.received == [message()]


@pytest.mark.parametrize(
    "chunks",
    [
        (SnapshotChunk(offset=0, data=b"one", last=True),),
        (SnapshotChunk(offset=0, data=b"one", message=message()),),
        (SnapshotChunk(offset=0, data=b"o", message=message()), SnapshotChunk(offset=2, data=b"x", last=True)),
    ],
    ids=["no message", "ends early", "a gap"],
)
async def test_what_is_not_whole_is_refused_and_not_stored(chunks: tuple[SnapshotChunk, ...]) -> None:
    world = World(MemorySnapshotStore(), newest=SnapshotMeta())
    with pytest.raises(Invalid):
        await world.receive(*chunks)
    assert world.files.snapshots == {}
    assert world.received == []


async def test_a_disk_without_room_for_it_is_told_to_the_leader() -> None:
    class Full(MemorySnapshotStore):
        def save(self, meta: Any, chunks: Any) -> Any:
            raise StorageFailed("no space left on device")

    world = World(Full(), newest=SnapshotMeta())
    with pytest.raises(Unavailable, match="no space left"):
        await world.receive(SnapshotChunk(offset=0, data=b"x", last=True, message=message()))
    assert world.received == []


async def test_it_is_due_once_enough_was_applied_and_none_is_under_way() -> None:
    world = World(with_snapshot())
    assert not world.snapshots.due(1000)  # not running
    async with trio.open_nursery() as nursery:
        await nursery.start(world.snapshots.run)
        assert not world.snapshots.due(14)
        assert world.snapshots.due(15)
        state = State()
        for index in range(1, 16):
            state.skip(index, b"")
        meta = SnapshotMeta(index=15, term=2)
        world.snapshots.take(state, meta)
        assert not world.snapshots.due(1000)
        await trio.testing.wait_all_tasks_blocked()
        assert world.saved == [meta]
        restored = State()
        restored.restore(meta, world.files.read(meta))
        assert restored.digest == state.digest
        assert not world.snapshots.due(24)
        assert world.snapshots.due(25)
        nursery.cancel_scope.cancel()


async def test_a_snapshot_without_room_is_put_off_and_no_reason_to_stop(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The log is whole without it."""
    caplog.set_level(logging.CRITICAL)
    files = FullFiles()
    world = World(files, newest=SnapshotMeta())
    state = State()
    for index in range(1, META.index + 1):
        state.skip(index, b"")
    async with trio.open_nursery() as nursery:
        await nursery.start(world.snapshots.run)
        for _ in range(2):
            assert world.snapshots.due(10)
            world.snapshots.take(state, META)
            await trio.sleep(RETRY_S / 2)
            assert not world.snapshots.due(1000)
            await trio.sleep(RETRY_S / 2)
        assert world.saved == []
        files.is_full = False
        world.snapshots.take(state, META)
        await trio.sleep(1)
        assert world.saved == [META]
        nursery.cancel_scope.cancel()


class FullFiles(MemorySnapshotStore):
    """No room for a snapshot while `is_full`."""

    def __init__(self) -> None:
        super().__init__()
        self.is_full = True

    def save(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> Path:
        if self.is_full:
            raise StorageFull("no space")
        return super().save(meta, chunks)
