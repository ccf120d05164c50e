"""What managers say among themselves."""

from __future__ import annotations

import msgspec

from swarmd.raft import Configuration, Message, SnapshotMeta


class Nothing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An empty reply."""


class RaftFrame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Messages for one member, encoded by `wire.raft_codec` (a run's body is framed once for all followers)."""

    messages: tuple[bytes, ...]


class SnapshotChunk(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A piece of a snapshot, at most 1 MiB. The first carries `message` (type SNAPSHOT); the last has `last`."""

    offset: int
    data: bytes
    last: bool = False
    meta: SnapshotMeta | None = None
    message: Message | None = None


class JoinRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A manager asks to become a member. The leader dials `addresses` back before it agrees.

    `incarnation` is random and made with the log database: another one under the same node id means a new disk, so
    the old member is removed and a new id given.
    """

    addresses: tuple[str, ...]
    incarnation: bytes
    member_id: int = 0
    """The id this disk already has, if it has one (re-announcing addresses)."""
    features: tuple[str, ...] = ()


class JoinReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The member's id and everybody's addresses."""

    member_id: int
    configuration: Configuration


class LeaveRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A manager asks to be removed: itself only."""


class DigestPoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A member's state at an agreed index: 32 bytes over the history up to there, and seldom 32 over the content."""

    index: int
    digest: bytes
    state_hash: bytes = b""


class DigestReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A member tells the leader its newest points, all that it has: they take the place of what it told before."""

    member_id: int
    points: tuple[DigestPoint, ...]
    hash_form: bytes = b""
    """What its full hashes cover. Those of another form (another version of swarmd) cannot be compared."""


class DigestReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """How the leader finds the member's points."""

    diverges_at: int = 0
    """An index at which a quorum of voters holds another state; 0: none is known."""


class HealthRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Ask whether the node answers."""


class HealthReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Who answers, and whether it is a member of the Raft group yet."""

    node_id: str
    is_member: bool = False
    leader_node_id: str = ""
    leader_addresses: tuple[str, ...] = ()
