"""The replicated log as one member has it: entries by list offset, sizes as running sums, configurations as history.

Nothing here scans the log: terms are looked up by offset, byte limits and conflicts by bisection.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from operator import attrgetter
from typing import Final

from swarmd.raft.membership import apply_change, decode_change, encode_change
from swarmd.raft.types import (
    Configuration,
    Entry,
    EntryKind,
    MembershipChange,
    SnapshotMeta,
)

_term = attrgetter("term")
RECENT_SLICES_MAX: Final = 8
"""Batches (of at most `append_entries_max` entries each) remembered so that followers and disk share one tuple."""


class Log:
    """Entries `first_index`..`last_index`, what is committed, and what the caller was told of both.

    Args:
        snapshot: the newest durable one.
        entries: what storage had; those at or below `snapshot.index` are kept for slow followers.
        commit: the hint of the hard state.
    """

    def __init__(self, snapshot: SnapshotMeta, entries: Sequence[Entry], commit: int) -> None:
        self.snapshot = snapshot
        self._become_empty(snapshot)
        kept = self._usable(entries)
        if kept and kept[0].index <= snapshot.index:
            self._offset, self._offset_term = kept[0].index, kept[0].term
            kept = kept[1:]
        self.last_index = self._offset
        self._extend(kept)
        for entry in kept:
            if entry.kind is EntryKind.CONFIG and entry.index > snapshot.index:
                self._note_change(entry.index, decode_change(entry.body))
        self.commit = max(snapshot.index, min(commit, self.last_index))
        self._unstable = self.last_index + 1

    def _become_empty(self, snapshot: SnapshotMeta) -> None:
        self._offset, self._offset_term = snapshot.index, snapshot.term
        self._entries: list[Entry] = []
        self._sizes: list[int] = []  # running sum of body bytes through the entry at the same position
        self._size_base = 0
        self._recent: dict[tuple[int, int], tuple[Entry, ...]] = {}
        self._configurations: list[tuple[int, Configuration]] = [(snapshot.index, snapshot.configuration)]
        self.last_index = snapshot.index
        self.commit = snapshot.index
        self.handed = snapshot.index
        self._unstable = snapshot.index + 1

    def _usable(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Without a tail that contradicts the snapshot (a store that kept the old log beside a peer's snapshot)."""
        snapshot = self.snapshot
        if not entries or entries[0].index > snapshot.index + 1 or entries[-1].index < snapshot.index:
            return ()
        at = snapshot.index - entries[0].index
        if at >= 0 and entries[at].term != snapshot.term:
            return ()
        return entries if entries[-1].term >= snapshot.term else ()

    # -- looking ---------------------------------------------------------------------------------------------------
    @property
    def first_index(self) -> int:
        """The oldest entry still here (one past the end if there is none)."""
        return self._offset + 1

    @property
    def last_term(self) -> int:
        """Term of the newest entry."""
        return self._entries[-1].term if self._entries else self._offset_term

    @property
    def uncommitted_bytes(self) -> int:
        """Bodies past the commit index."""
        return self._size_through(self.last_index) - self._size_through(self.commit)

    @property
    def configuration(self) -> Configuration:
        """The latest, committed or not."""
        return self._configurations[-1][1]

    @property
    def configuration_index(self) -> int:
        """Where the latest configuration comes from."""
        return self._configurations[-1][0]

    def configuration_at(self, index: int) -> Configuration:
        """The configuration in force once everything up to `index` (not below the snapshot) is applied."""
        at = bisect_right(self._configurations, index, key=lambda pair: pair[0])
        return self._configurations[max(at - 1, 0)][1]

    @property
    def committed_configuration(self) -> Configuration:
        """The latest that cannot be undone any more."""
        index, configuration = self._configurations[-1]
        return configuration if index <= self.commit else self.configuration_at(self.commit)

    def term_of(self, index: int) -> int | None:
        """Term of the entry at `index`; None if compacted or not there."""
        at = index - self._offset
        if 0 < at <= len(self._entries):
            return self._entries[at - 1].term
        return self._offset_term if at == 0 else None

    def slice(self, first: int, last: int) -> tuple[Entry, ...]:
        """Entries `first`..`last`, both here. The same range gives the same tuple, so that it is encoded once."""
        taken = self._recent.get((first, last))
        if taken is None:
            if len(self._recent) >= RECENT_SLICES_MAX:
                self._recent.clear()
            taken = tuple(self._entries[first - self._offset - 1 : last - self._offset])
            self._recent[first, last] = taken
        return taken

    def batch_end(self, first: int, entries_max: int, bytes_max: int) -> int:
        """The last index of a batch that starts at `first` and keeps both limits; at least `first` itself."""
        last = min(self.last_index, first + entries_max - 1)
        limit = self._size_through(first - 1) + bytes_max
        if self._size_through(last) > limit:
            at = bisect_right(self._sizes, limit, first - self._offset - 1, last - self._offset)
            last = max(first, self._offset + at)
        return last

    def is_current(self, index: int, term: int) -> bool:
        """Whether a log that ends at (`index`, `term`) is at least as up to date as this one (Raft 5.4.1)."""
        return term > self.last_term or (term == self.last_term and index >= self.last_index)

    def last_not_above(self, index: int, term: int) -> int:
        """The greatest index <= `index` with a term <= `term`, or the one before the log: logs may agree there."""
        size = max(0, min(index, self.last_index) - self._offset)
        return self._offset + bisect_right(self._entries, term, 0, size, key=_term)

    def _size_through(self, index: int) -> int:
        at = index - self._offset
        return self._sizes[at - 1] if at > 0 else self._size_base

    # -- growing and shrinking -------------------------------------------------------------------------------------
    def propose(self, term: int, kind: EntryKind, bodies: Sequence[bytes]) -> None:
        """Append a leader's own entries."""
        self._extend([Entry(index, term, kind, body) for index, body in enumerate(bodies, self.last_index + 1)])

    def propose_change(self, term: int, change: MembershipChange) -> None:
        """Append a leader's own membership change; it is in force at once."""
        self.propose(term, EntryKind.CONFIG, (encode_change(change),))
        self._note_change(self.last_index, change)

    def accept(self, previous: int, entries: Sequence[Entry], changes: Sequence[tuple[int, MembershipChange]]) -> bool:
        """Take a leader's entries, which follow `previous` (here, and agreed). False: they contradict committed ones.

        Entries already here stay; the first that differs cuts the log (Raft 5.3).
        """
        fresh = previous + 1
        if previous < self.last_index:
            for entry in entries:
                if self.term_of(entry.index) != entry.term:
                    break
                fresh += 1
            if fresh <= previous + len(entries) and fresh <= self.last_index:
                if fresh <= self.commit:
                    return False
                self._cut(fresh)
        self._extend(entries[fresh - previous - 1 :])
        for index, change in changes:
            if index >= fresh:
                self._note_change(index, change)
        return True

    def _extend(self, entries: Sequence[Entry]) -> None:
        self._sizes.extend(
            list(accumulate([len(e.body) for e in entries], initial=self._size_through(self.last_index)))[1:]
        )
        self._entries.extend(entries)
        self.last_index += len(entries)

    def _note_change(self, index: int, change: MembershipChange) -> None:
        self._configurations.append((index, apply_change(self.configuration, change)))

    def _cut(self, first: int) -> None:
        """Forget everything from `first` on, which is not committed; a configuration from there is undone."""
        at = first - self._offset - 1
        del self._entries[at:]
        del self._sizes[at:]
        self.last_index = first - 1
        self._unstable = min(self._unstable, first)
        self._recent.clear()
        while self._configurations[-1][0] >= first:
            self._configurations.pop()

    def commit_to(self, index: int) -> bool:
        """Move the commit index forward to `index`, or to what is here. Returns whether it moved."""
        index = min(index, self.last_index)
        if index <= self.commit:
            return False
        self.commit = index
        return True

    def restore(self, snapshot: SnapshotMeta) -> None:
        """Replace everything by a snapshot of a peer."""
        self.snapshot = snapshot
        self._become_empty(snapshot)

    def compact(self, snapshot: SnapshotMeta, keep_from: int) -> None:
        """Remember a newer snapshot of applied entries; forget entries below `keep_from`."""
        self.snapshot = snapshot
        later = [pair for pair in self._configurations if pair[0] > snapshot.index]
        self._configurations = [(snapshot.index, snapshot.configuration), *later]
        drop = min(keep_from - 1, snapshot.index) - self._offset
        if drop <= 0:
            return
        self._offset_term = self._entries[drop - 1].term
        self._size_base = self._sizes[drop - 1]
        del self._entries[:drop]
        del self._sizes[:drop]
        self._offset += drop

    # -- handing over ----------------------------------------------------------------------------------------------
    @property
    def has_unstable(self) -> bool:
        """Whether `take_unstable` would hand over anything."""
        return self._unstable <= self.last_index

    def take_unstable(self) -> tuple[Entry, ...]:
        """Entries the caller has not been asked to persist yet."""
        if self._unstable > self.last_index:
            return ()
        first, self._unstable = self._unstable, self.last_index + 1
        return self.slice(first, self.last_index)

    def take_committed(self) -> tuple[Entry, ...]:
        """Committed entries the caller has not been asked to apply yet."""
        if self.handed >= self.commit:
            return ()
        first, self.handed = self.handed + 1, self.commit
        return self.slice(first, self.commit)
