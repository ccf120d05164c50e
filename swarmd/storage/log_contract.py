"""What a Raft log on disk promises: the vocabulary and the interface that `LogStore` and `MemoryLogStore` share."""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol

import msgspec

from swarmd.raft import Entry, HardState, SnapshotMeta
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


class Resealed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one step of sealing anew did."""

    changed: int
    """Blobs that were sealed anew."""
    after: int | None
    """The index after which the next step begins, or None at the end of the log."""


class LogStorage(Protocol):
    """A log that survives. Not thread-safe: one thread at a time. After `StorageFailed` only `close` may be called:
    what the failed call left behind is known only to the next `open`."""

    def initialise(self, identity: LogIdentity) -> None:
        """Say whose log this is, once and durably; the same identity again is fine, another one a `ValueError`."""

    def load(self) -> StoredLog:
        """Everything, each run's seal checked. A bad seal raises `StorageDamaged`: never cut (foundations: Damage)."""
        ...

    def write(self, batch: LogBatch) -> None:
        """Make `batch` durable in one transaction; all of it or nothing.

        Entries that the recorded snapshot covers, or that contradict it, are left out (`runs_to_write`).
        Raises `StorageFailed` (disk), `StorageDamaged`, and `ValueError` for runs that leave a gap: a defect of the
        caller, nothing is written.
        """

    def record_snapshot(self, meta: SnapshotMeta, *, keep_from: int) -> None:
        """A snapshot file up to `meta.index` is durable: remember it and drop runs wholly below `keep_from`.

        If the log does not reach `meta.index`, or disagrees about its term (snapshot from a peer, Raft section 7),
        the whole log is dropped. A snapshot older than the one recorded changes nothing: two may finish out of order.
        """

    def reseal(self, after: int) -> Resealed:
        """Seal anew, in one short transaction, what names an older data key among the next rows after index `after`
        (0: from the beginning, which includes what is no entry).

        Raises `StorageFailed`; `StorageDamaged` for a row that does not open, and then nothing was changed and the log
        may be used further.
        """
        ...

    def prepare(self) -> None:
        """Get ready for many writes, if there is anything that makes them faster. Optional; blocks for a moment."""

    def tidy(self) -> None:
        """Do the housekeeping that was put off. To be called when nothing waits."""

    def close(self) -> None:
        """Checkpoint and close. A second call does nothing."""


def runs_to_write(runs: tuple[EntryRun, ...], *, last: int, snapshot: SnapshotMeta) -> tuple[EntryRun, ...]:
    """The part of `runs` that a log which ends at `last` takes, given its snapshot.

    Batches queue for the disk, and a snapshot may be recorded before an older batch is written. What that snapshot
    covers is superfluous; what contradicts it (it came from a peer, and the core has dropped those entries) would be
    wrong: terms never fall along a log. Raises `ValueError` for runs that are not consecutive or leave a gap.
    """
    if any(run.last < run.first for run in runs):
        raise ValueError("a run holds at least one entry")
    for before, after in pairwise(runs):
        if after.first != before.last + 1:
            raise ValueError(f"entries {after.first} on do not follow {before.last}")
    rest = tuple(run for run in runs if run.last > snapshot.index)
    if not rest:
        return ()
    first, term = rest[0].first, rest[0].term
    if first > last + 1:
        raise ValueError(f"entries from {first} on do not join a log that ends at {last}")
    holds_snapshot_entry = first <= snapshot.index
    if (holds_snapshot_entry and term != snapshot.term) or (first == snapshot.index + 1 and term < snapshot.term):
        return ()
    return rest
