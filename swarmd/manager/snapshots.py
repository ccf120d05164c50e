"""Snapshots of a running manager: taken in slices, written by a thread, streamed on a connection of their own."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, Protocol, TypeVar

import trio

from swarmd.errors import Invalid, ResourceExhausted, SwarmError, Unavailable
from swarmd.raft import Message, SnapshotMeta
from swarmd.state.snapshot import Capture, encode_snapshot
from swarmd.state.store import State
from swarmd.storage.errors import StorageDamaged, StorageFailed, StorageFull
from swarmd.storage.snapshot_store import SnapshotStorage
from swarmd.transport.connection import Call, Connection, Stream
from swarmd.wire.frames import CHUNK_BYTES_MAX
from swarmd.wire.methods import RAFT_SNAPSHOT
from swarmd.wire.peer import Nothing, SnapshotChunk

log = logging.getLogger(__name__)

T = TypeVar("T")

ENTRY_BYTES: Final = 256
"""Half of what an entry usually adds to the log: at most a third of what is written is snapshots."""
RETRY_S: Final = 60.0
"""After a snapshot for which there was no space: the log is whole without it."""
INCOMING_BYTES_MAX: Final = 1 << 30
"""A snapshot larger than this is refused: it would not fit in memory beside the state it replaces."""


class InThread(Protocol):
    """Runs blocking work."""

    async def __call__(self, work: Callable[[], T]) -> T: ...


class DialNode(Protocol):
    """Opens a connection of class `bulk` to a member."""

    def __call__(self, member_id: int) -> AbstractAsyncContextManager[Connection]: ...


class Snapshots:
    """Takes, sends and receives them, one of each kind at a time.

    `run` owns the background work; `on_saved`, `on_sent` and `on_received` are called in the Trio thread.
    """

    def __init__(
        self,
        store: SnapshotStorage,
        *,
        newest: SnapshotMeta,
        interval: Callable[[], int],
        dial: DialNode,
        on_saved: Callable[[SnapshotMeta], None],
        on_sent: Callable[[int, bool], None],
        on_received: Callable[[Message], None],
        in_thread: InThread | None = None,
    ) -> None:
        self._store = store
        self._newest = newest
        self._interval = interval
        self._dial = dial
        self._on_saved = on_saved
        self._on_sent = on_sent
        self._on_received = on_received
        self._in_thread: InThread = _one_thread() if in_thread is None else in_thread
        self._newest_bytes = 0
        self._taking = False
        self._not_before = -math.inf
        self._sending: set[int] = set()
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do the background work until cancelled. `Cancelled` leaves only whole snapshots behind."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None  # nothing is begun any more

    # -- taking ---------------------------------------------------------------------------------------------------

    def due(self, applied: int) -> bool:
        """Whether enough was applied since the newest one: the interval, or what writing one costs, if that is more.

        So a large state is not written again and again under load.
        """
        wait = max(self._interval(), self._newest_bytes // ENTRY_BYTES)
        may = self._nursery is not None and not self._taking and trio.current_time() >= self._not_before
        return may and applied - self._newest.index >= wait

    def take(self, state: State, meta: SnapshotMeta) -> None:
        """Capture now, encode and write in the background."""
        assert self._nursery is not None
        self._taking = True
        self._nursery.start_soon(self._take, state.capture(), meta)

    async def _take(self, capture: Capture, meta: SnapshotMeta) -> None:
        try:
            chunks = await _encode(capture, meta)
            await self._in_thread(partial(self._store.save, meta, chunks))
            self._newest = max(self._newest, meta, key=lambda m: m.index)
            self._newest_bytes = sum(map(len, chunks))
            log.info("snapshot at index %d: %d bytes", meta.index, self._newest_bytes)
            self._on_saved(meta)
        except StorageFull as error:
            self._not_before = trio.current_time() + RETRY_S
            log.warning("no snapshot at index %d, next try in %.0f s: %s", meta.index, RETRY_S, error)
        finally:
            self._taking = False

    def keep_as_evidence(self, state: State, meta: SnapshotMeta) -> None:
        """Write the state to a file among the snapshots in the background, and tell nobody: it is not to be used."""
        if self._nursery is not None:
            self._nursery.start_soon(self._keep_as_evidence, state.capture(), meta)

    async def _keep_as_evidence(self, capture: Capture, meta: SnapshotMeta) -> None:
        try:
            path = await self._in_thread(partial(self._store.save, meta, await _encode(capture, meta)))
            log.error("the state as it is here is kept as %s", path)
        except StorageFailed as error:
            log.error("the state as it is here could not be kept: %s", error)

    def prune(self, keep: SnapshotMeta) -> None:
        """Delete older files in the background, now that `keep` is the one the log names."""
        if self._nursery is not None:
            self._nursery.start_soon(self._in_thread, partial(self._store.prune, keep))

    async def reseal(self) -> None:
        """Seal anew what names an older data key. No other reading or writing of snapshots meanwhile.

        Raises `StorageDamaged`, `StorageFailed`. `Cancelled` waits for the file at hand.
        """
        await self._in_thread(self._store.reseal)

    # -- sending --------------------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Stream the snapshot that `message` names to its target in the background, one transfer a target."""
        if self._nursery is None or message.target in self._sending:
            return
        self._sending.add(message.target)
        self._nursery.start_soon(self._send, message)

    async def _send(self, message: Message) -> None:
        delivered = False
        try:
            chunks = await self._chunks_to_send(_meta_of(message))
            async with (
                self._dial(message.target) as connection,
                connection.open(RAFT_SNAPSHOT) as stream,
            ):
                await self._send_chunks(stream, message, chunks)
                delivered = True
        except SwarmError as error:
            log.warning("snapshot for member %x not delivered: %s", message.target, error)
        finally:
            self._sending.discard(message.target)
            self._on_sent(message.target, delivered)

    async def _chunks_to_send(self, meta: SnapshotMeta) -> list[bytes]:
        """Raises `Unavailable` if newer snapshots took this one's place meanwhile: the next message names one."""
        try:
            return await self.chunks(meta)
        except StorageDamaged as error:
            if self._newest.index > meta.index:
                raise Unavailable(f"snapshot {meta.index} was replaced by {self._newest.index}") from error
            raise

    @staticmethod
    async def _send_chunks(stream: Stream[SnapshotChunk, Nothing], message: Message, chunks: list[bytes]) -> None:
        offset = 0
        for number, chunk in enumerate(chunks):
            last = number == len(chunks) - 1
            await stream.send(
                SnapshotChunk(offset=offset, data=chunk, last=last, message=message if number == 0 else None)
            )
            offset += len(chunk)
        await stream.end()
        try:
            await stream.receive()
        except trio.EndOfChannel:
            raise Unavailable("the peer did not say that it stored the snapshot") from None

    async def chunks(self, meta: SnapshotMeta) -> list[bytes]:
        """The plain chunks of a saved snapshot."""
        return await self._in_thread(lambda: list(self._store.read(meta)))

    # -- receiving ------------------------------------------------------------------------------------------------

    async def receive(self, call: Call, first: SnapshotChunk, stream: Stream[Nothing, SnapshotChunk]) -> Nothing:
        """Handler of `raft.snapshot`: the snapshot is durable here before consensus hears of it."""
        message = first.message
        if message is None or message.snapshot is None:
            raise Invalid("the first chunk must carry the snapshot's message", field="$.message")
        chunks = await _collect(first, stream)
        meta = message.snapshot
        try:
            await self._in_thread(partial(self._store.save, meta, chunks))
        except StorageFailed as error:
            log.error("cannot store the leader's snapshot at index %d: %s", meta.index, error)
            raise Unavailable(f"this manager cannot store the snapshot: {error}") from error
        self._newest = max(self._newest, meta, key=lambda m: m.index)
        self._on_received(message)
        return Nothing()


async def _encode(capture: Capture, meta: SnapshotMeta) -> list[bytes]:
    chunks: list[bytes] = []
    for chunk in encode_snapshot(capture, meta):
        if chunk:
            chunks.append(chunk)
        await trio.lowlevel.checkpoint()  # each step is <= 2 ms: heartbeats pass in between
    return chunks


def _one_thread() -> InThread:
    """Reading and writing snapshots is one job at a time."""
    limiter = trio.CapacityLimiter(1)

    async def run(work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=limiter)

    return run


def _meta_of(message: Message) -> SnapshotMeta:
    assert message.snapshot is not None
    return message.snapshot


async def _collect(first: SnapshotChunk, stream: Stream[Nothing, SnapshotChunk]) -> list[bytes]:
    chunks: list[bytes] = []
    received = 0
    chunk = first
    while True:
        if chunk.offset != received or len(chunk.data) > CHUNK_BYTES_MAX:
            raise Invalid(f"chunk at {chunk.offset}, expected {received}", field="$.offset")
        received += len(chunk.data)
        if received > INCOMING_BYTES_MAX:
            raise ResourceExhausted(f"a snapshot may have {INCOMING_BYTES_MAX} bytes")
        chunks.append(chunk.data)
        if chunk.last:
            return chunks
        try:
            chunk = await stream.receive()
        except trio.EndOfChannel:
            raise Invalid("the snapshot ended early", field="$.last") from None
