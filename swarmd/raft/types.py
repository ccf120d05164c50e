"""The vocabulary of consensus: entries, members, messages, and `Ready`, which says what must happen in which order.

Time is a tick, an entry's body is opaque bytes, disks and sockets belong to the caller.
Sources: Ongaro's dissertation (chapters 3, 4, 6), etcd-io/raft's `Ready`.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

MemberId = int
"""A random 63-bit integer, given by the leader at join and never reused. 0 means nobody."""


class EntryKind(IntEnum):
    """What an entry's body is."""

    NOOP = 0
    CONFIG = 1
    DATA = 2


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One position of the replicated log."""

    index: int
    term: int
    kind: EntryKind
    body: bytes = b""


class Member(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A manager as consensus knows it. A learner receives the log and does not vote."""

    member_id: int
    node_id: str
    addresses: tuple[str, ...] = ()
    is_voter: bool = False


class Configuration(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who takes part, and who never may again."""

    members: tuple[Member, ...] = ()
    removed: tuple[int, ...] = ()

    def member(self, member_id: int) -> Member | None:
        """The member with this id, if it takes part."""
        return next((m for m in self.members if m.member_id == member_id), None)

    def member_of_node(self, node_id: str) -> Member | None:
        """The member that this node is, if it takes part."""
        return next((m for m in self.members if m.node_id == node_id), None)

    @property
    def voters(self) -> tuple[int, ...]:
        """Ids of those whose votes and disks count, ascending."""
        return tuple(sorted(m.member_id for m in self.members if m.is_voter))


class ChangeKind(IntEnum):
    """A single-step membership change. Append-only."""

    ADD_LEARNER = 0
    PROMOTE = 1
    REMOVE = 2
    UPDATE_ADDRESSES = 3


class MembershipChange(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The body of a CONFIG entry (encoded by `raft.membership`)."""

    kind: ChangeKind
    member: Member


class HardState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What must be durable before anything is said. `commit` is a hint that only speeds up a restart."""

    term: int = 0
    voted_for: int = 0
    commit: int = 0


class SnapshotMeta(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a snapshot covers. Its data belongs to the caller."""

    index: int = 0
    term: int = 0
    configuration: Configuration = Configuration()


class MessageType(IntEnum):
    """What members say to each other. Append-only."""

    PRE_VOTE = 0
    PRE_VOTE_REPLY = 1
    VOTE = 2
    VOTE_REPLY = 3
    APPEND = 4
    APPEND_REPLY = 5
    HEARTBEAT = 6
    HEARTBEAT_REPLY = 7
    SNAPSHOT = 8
    """Leader to follower. The caller streams the data; the receiver steps this only once the data is durable."""
    TIMEOUT_NOW = 9
    READ_INDEX = 10
    READ_INDEX_REPLY = 11


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One message. Fields a type does not use keep their defaults."""

    type: MessageType
    source: int
    target: int
    term: int = 0
    index: int = 0
    """APPEND: index before `entries`. APPEND_REPLY: last durable match, or on reject the index refused.
    HEARTBEAT_REPLY: last index. READ_INDEX_REPLY: the read index (`log_term`: its term)."""
    log_term: int = 0
    commit: int = 0
    entries: tuple[Entry, ...] = ()
    reject: bool = False
    hint: int = 0
    """APPEND_REPLY with `reject`: where to try next."""
    hint_term: int = 0
    context: int = 0
    """HEARTBEAT, READ_INDEX and their replies: the read round they confirm. VOTE: 1 marks a leadership transfer."""
    snapshot: SnapshotMeta | None = None


class RaftRole(IntEnum):
    """What a member is at the moment."""

    FOLLOWER = 0
    PRE_CANDIDATE = 1
    CANDIDATE = 2
    LEADER = 3


class ReadReady(msgspec.Struct, frozen=True, gc=False):
    """Read `context` is linearizable once everything up to `index` is applied. `index` < 0: refused, ask again."""

    context: int
    index: int


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller must do now. `Core.take_ready()` hands over each thing once.

    Order: 1. send `messages` at once (a leader's APPENDs leave before its own disk write, performance-raft rule 2);
    2. make `hard_state` and `entries` durable in one write, then send `after_persist` and call
    `core.persisted(last index, its term)`; writes never overtake each other, and later ones may be merged.
    `after_persist` waits for every earlier write too, even if this Ready has nothing to write. If `snapshot` is set,
    the stored log is first replaced by it as a whole, in order with the writes;
    3. if `snapshot` is set, replace the state machine by that snapshot (its data is already durable here);
    4. apply `committed` in order, then `core.applied(index)`.
    A committed entry may be applied before it is durable *here*: a majority already has it.
    """

    messages: tuple[Message, ...] = ()
    hard_state: HardState | None = None
    entries: tuple[Entry, ...] = ()
    """Contiguous and ascending; replaces everything from `entries[0].index` on."""
    after_persist: tuple[Message, ...] = ()
    snapshot: SnapshotMeta | None = None
    committed: tuple[Entry, ...] = ()
    reads: tuple[ReadReady, ...] = ()
    role: RaftRole = RaftRole.FOLLOWER
    leader: int = 0
    term: int = 0


class Settings(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Limits and ticks (100 ms each)."""

    heartbeat_ticks: int = 1
    election_ticks_min: int = 10
    """The timeout is uniform in [min, 2 * min - 1]."""
    append_entries_max: int = 1024
    append_bytes_max: int = 1 << 20
    """A larger single entry is still sent, alone."""
    appends_in_flight_max: int = 64
    promote_lag_max: int = 1000
    promote_ticks_min: int = 10
    uncommitted_bytes_max: int = 64 << 20
    """Proposals beyond this much uncommitted log are refused."""


class ProgressView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a leader knows of one member."""

    member_id: int
    match: int
    next: int
    is_active: bool
    """Answered within the last election timeout."""
    ticks_since_heard: int
    is_snapshotting: bool = False
    is_rolled_back: bool = False
    """It has less than it once acknowledged (a restored or wiped disk): nothing more is sent to it; remove it and let
    it join under a new member id."""
