"""Consensus as a function: messages, ticks and proposals in, `Ready` out. See DESIGN.md.

This is the interface; the algorithm fills it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from swarmd.raft.types import (
    Configuration,
    Entry,
    HardState,
    MembershipChange,
    Message,
    ProgressView,
    RaftRole,
    Ready,
    Settings,
    SnapshotMeta,
)


class RaftCore:
    """One member's part in the agreement.

    Args:
        member_id: own id.
        settings: ticks and limits.
        hard_state, snapshot, entries: what storage had; `entries` follow `snapshot.index` without a gap.
        rng: dice for election timeouts.
    """

    def __init__(
        self,
        member_id: int,
        settings: Settings,
        rng: random.Random,
        *,
        hard_state: HardState = HardState(),
        snapshot: SnapshotMeta = SnapshotMeta(),
        entries: Sequence[Entry] = (),
    ) -> None:
        raise NotImplementedError

    # -- what is the case -------------------------------------------------------------------------------------
    member_id: int
    term: int
    role: RaftRole
    leader: int
    commit: int
    last_index: int
    first_index: int
    configuration: Configuration
    """The latest in the log (used from the moment it is appended; undone if the log is overwritten)."""

    @property
    def is_leader(self) -> bool:
        """Whether this member leads its term (it may not know yet that another term began)."""
        raise NotImplementedError

    @property
    def has_committed_in_term(self) -> bool:
        """Leader only: whether an entry of its own term is committed, so reads and membership changes may start."""
        raise NotImplementedError

    def term_of(self, index: int) -> int | None:
        """Term of the entry at `index`; None if compacted or not there."""
        raise NotImplementedError

    def progress(self) -> tuple[ProgressView, ...]:
        """Leader only: what it knows of every member, itself included."""
        raise NotImplementedError

    # -- what happens ------------------------------------------------------------------------------------------
    def tick(self) -> None:
        """100 ms passed."""
        raise NotImplementedError

    def step(self, message: Message) -> None:
        """A message arrived. Anything a peer may send is safe; nonsense is ignored."""
        raise NotImplementedError

    def campaign(self) -> None:
        """Start an election now (bootstrap of a sole member, tests)."""
        raise NotImplementedError

    def propose(self, bodies: Sequence[bytes]) -> tuple[int, int]:
        """Append DATA entries. Returns (index of the first, term).

        Raises `Unavailable` if not leading or transferring, `ResourceExhausted` beyond `uncommitted_bytes_max`;
        then nothing was appended.
        """
        raise NotImplementedError

    def propose_change(self, change: MembershipChange, *, force: bool = False) -> tuple[int, int]:
        """Append a membership change. Returns (index, term).

        Raises `Unavailable` if not leading, `FailedPrecondition` while another change is uncommitted, before an
        entry of this term is committed, or (without `force`) when live voters would not form a quorum of both the
        old and the new configuration (1 -> 2 voters is allowed); the message states the failures tolerated before
        and after.
        """
        raise NotImplementedError

    def transfer_leadership(self, target: int = 0) -> int:
        """Hand over to `target`, or to the active voter with the best match. Returns the target; `FailedPrecondition` if none."""
        raise NotImplementedError

    def read_index(self, context: int) -> None:
        """Ask for a linearizable read point; `Ready.reads` answers with `context`. Works on followers with a leader."""
        raise NotImplementedError

    def persisted(self, index: int, term: int) -> None:
        """Everything up to the entry (`index`, `term`) is durable here."""
        raise NotImplementedError

    def applied(self, index: int) -> None:
        """The state machine has applied everything up to `index`."""
        raise NotImplementedError

    def compact(self, snapshot: SnapshotMeta, *, keep_entries: int) -> None:
        """A snapshot up to `snapshot.index` is durable: forget entries below `snapshot.index - keep_entries`."""
        raise NotImplementedError

    def report_unreachable(self, member_id: int) -> None:
        """Messages to this member were lost: probe before pipelining again."""
        raise NotImplementedError

    def report_snapshot(self, member_id: int, *, delivered: bool) -> None:
        """The transfer of a snapshot ended."""
        raise NotImplementedError

    def has_ready(self) -> bool:
        """Whether `take_ready` would hand over anything."""
        raise NotImplementedError

    def take_ready(self) -> Ready:
        """Hand over what must be done, once."""
        raise NotImplementedError
