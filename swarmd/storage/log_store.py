"""One SQLite file per manager: identity, hard state, and the log as sealed runs. Blocking; called by `LogWriter`'s thread.

`STATE/raft/raft.db`, WAL, synchronous=FULL. A write is durable when `write` returns.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Self

import msgspec

from swarmd.raft import Entry, HardState, SnapshotMeta
from swarmd.storage.sealing import Sealer
from swarmd.wire.raft_codec import EntryRun


class LogIdentity(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Whose log this is. `incarnation` is random and made with the file."""

    swarm_id: str
    node_id: str
    member_id: int
    incarnation: bytes


class LogBatch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one durable write holds. `runs` replace everything from `runs[0].first` on."""

    hard_state: HardState | None = None
    runs: tuple[EntryRun, ...] = ()


class StoredLog(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a restart finds. `entries` follow `snapshot.index` (or an older kept entry) without a gap."""

    identity: LogIdentity | None = None
    hard_state: HardState = HardState()
    snapshot: SnapshotMeta = SnapshotMeta()
    entries: tuple[Entry, ...] = ()


class LogStore:
    """The file. Not thread-safe: one thread at a time."""

    @classmethod
    def open(cls, path: Path, sealer: Sealer) -> Self:
        """Open or create (0600). Raises `StorageDamaged` (see `storage.errors`) if it is no log of ours."""
        raise NotImplementedError

    def initialise(self, identity: LogIdentity) -> None:
        """Say whose log this is, once and durably; the same identity again is fine."""
        raise NotImplementedError

    def load(self) -> StoredLog:
        """Everything, each run's seal checked. A bad seal raises `StorageDamaged`: never cut (foundations: Damage)."""
        raise NotImplementedError

    def write(self, batch: LogBatch) -> None:
        """Make `batch` durable in one transaction."""
        raise NotImplementedError

    def record_snapshot(self, meta: SnapshotMeta, *, keep_from: int) -> None:
        """A snapshot file up to `meta.index` is durable: remember it and drop runs wholly below `keep_from`. If the log
        does not reach `meta.index` (snapshot from a peer), the whole log is dropped."""
        raise NotImplementedError

    def close(self) -> None:
        """Checkpoint and close."""
        raise NotImplementedError


class LogWriter:
    """The one thread that writes a `LogStore`. `run` owns it.

    `submit` never blocks; batches are written in order, and `done` is called in the Trio thread after each one, with
    None or the error. After an error nothing more is written.
    """

    def __init__(self, store: LogStore) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Start the thread; must be called inside Trio."""
        raise NotImplementedError

    def submit(self, batch: LogBatch, done: Callable[[BaseException | None], None]) -> None:
        """Queue a batch."""
        raise NotImplementedError

    def call(self, work: Callable[[LogStore], None], done: Callable[[BaseException | None], None]) -> None:
        """Queue other work on the store (snapshot bookkeeping), in order with the batches."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Write what is queued, close the store, end the thread. Shielded and bounded (10 s)."""
        raise NotImplementedError
