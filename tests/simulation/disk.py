"""A disk that keeps only what was synced: a crash keeps some prefix of the rest."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from swarmd.raft import Entry, HardState, Message, SnapshotMeta


@dataclass(frozen=True)
class Write:
    """One atomic write, and what may be done once it is durable."""

    hard_state: HardState | None = None
    entries: tuple[Entry, ...] = ()
    install: SnapshotMeta | None = None  # a peer's snapshot takes the place of the whole log
    snapshot: SnapshotMeta | None = None  # one of our own
    snapshot_data: bytes = b""
    keep_from: int = 0
    after: tuple[Message, ...] = ()
    done: Callable[[], None] | None = None


@dataclass
class Disk:
    """What one member has kept, and what it is about to keep."""

    hard_state: HardState = field(default_factory=HardState)
    snapshot: SnapshotMeta = field(default_factory=SnapshotMeta)
    snapshots: dict[int, bytes] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    waiting: list[Write] = field(default_factory=list)

    def submit(self, write: Write) -> None:
        """Queue behind earlier writes."""
        self.waiting.append(write)

    def sync(self, count: int) -> list[Write]:
        """Make the first `count` waiting writes durable, in order."""
        done, self.waiting = self.waiting[:count], self.waiting[count:]
        for write in done:
            self._keep(write)
        return done

    def crash(self, rng: random.Random) -> int:
        """Lose what was not synced, save a prefix that reached the platter by luck. Returns how many were lost."""
        self.sync(rng.randint(0, len(self.waiting)))
        lost = sum(1 for write in self.waiting if write.hard_state or write.entries or write.install or write.snapshot)
        self.waiting.clear()
        return lost

    def _keep(self, write: Write) -> None:
        if write.install is not None:
            self.entries.clear()
            self.snapshot = write.install
        if write.snapshot is not None:
            self.snapshots[write.snapshot.index] = write.snapshot_data
            if write.keep_from and write.snapshot.index > self.snapshot.index:
                self.snapshot = write.snapshot
                self.entries = [entry for entry in self.entries if entry.index >= write.keep_from]
        if write.entries:
            first = write.entries[0].index
            while self.entries and self.entries[-1].index >= first:
                self.entries.pop()
            assert not self.entries or self.entries[-1].index == first - 1, "a gap in the log on disk"
            self.entries.extend(write.entries)
        if write.hard_state is not None:
            self.hard_state = write.hard_state
