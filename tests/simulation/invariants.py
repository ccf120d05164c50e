"""What must hold after every event of every life."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swarmd.raft import Configuration, Entry, EntryKind, RaftCore, SnapshotMeta, decode_change
from swarmd.raft.membership import apply_change


class Violation(AssertionError):
    """Consensus broke a promise."""


class Invariants:
    """Remembers what any member ever led, said, kept, committed or applied, and objects to contradictions."""

    def __init__(self) -> None:
        self._leader_of: dict[int, int] = {}
        self._entries: dict[tuple[int, int], tuple[Any, ...]] = {}
        self._committed: dict[int, tuple[int, Any, bytes]] = {}
        self._digests: dict[int, bytes] = {}
        self._committed_through: dict[int, int] = {}  # term of whoever saw it first -> greatest index
        self.elections = 0
        self.commit = 0

    def led(self, core: RaftCore) -> None:
        """Election safety and leader completeness (Raft, figure 3)."""
        holder = self._leader_of.setdefault(core.term, core.member_id)
        if holder != core.member_id:
            raise Violation(f"two leaders in term {core.term}: {holder} and {core.member_id}")
        self.elections += 1
        for term, index in self._committed_through.items():
            if term < core.term and index >= core.first_index and core.term_of(index) != self._committed[index][0]:
                raise Violation(f"leader {core.member_id} of term {core.term} lacks entry {index}, committed in {term}")

    def recorded(self, previous_term: int | None, entries: Sequence[Entry]) -> None:
        """Log matching: an index and a term name one entry, and one history before it."""
        before = previous_term
        for entry in entries:
            known = self._entries.get((entry.index, entry.term))
            if known is None:
                self._entries[entry.index, entry.term] = (entry.kind, entry.body, before)
            elif known[:2] != (entry.kind, entry.body):
                raise Violation(f"two entries {entry.index} of term {entry.term}")
            elif before is not None and known[2] is not None and known[2] != before:
                raise Violation(f"entry {entry.index} of term {entry.term} follows terms {known[2]} and {before}")
            before = entry.term

    def committed(self, term: int, commit: int) -> None:
        """Somebody in `term` knows that everything up to `commit` is committed."""
        self.commit = max(self.commit, commit)
        if commit > self._committed_through.get(term, 0):
            self._committed_through[term] = commit

    def committed_by_leader(self, core: RaftCore) -> None:
        """A leader counts disks for entries of its own term alone; older ones are committed with those (Raft 5.4.2).

        What breaking that leads to (figure 8) takes so many coincidences that the rule itself is looked at."""
        if core.term_of(core.commit) not in (core.term, None):
            raise Violation(
                f"leader {core.member_id} of term {core.term} committed entry {core.commit} of an older term"
            )

    def snapshot(self, meta: SnapshotMeta) -> None:
        """A snapshot says who took part at its index: what the committed changes up to there add up to."""
        configuration = Configuration()
        for index in sorted(index for index in self._committed if index <= meta.index):
            _, kind, body = self._committed[index]
            if kind is EntryKind.CONFIG:
                configuration = apply_change(configuration, decode_change(body))
        if configuration != meta.configuration:
            raise Violation(f"a snapshot at {meta.index} with {meta.configuration}, not {configuration}")

    def applied(self, entry: Entry, digest: bytes) -> None:
        """State machine safety: the same entry, the same digest at an index, everywhere."""
        now = (entry.term, entry.kind, entry.body)
        if self._committed.setdefault(entry.index, now) != now:
            raise Violation(f"different entries applied at index {entry.index}")
        if self._digests.setdefault(entry.index, digest) != digest:
            raise Violation(f"different states at index {entry.index}")
