"""How the Raft group stands, as one manager sees it at this moment: never stored, asked of nobody else."""

from __future__ import annotations

import msgspec

from swarmd.wire.control import Reachability
from swarmd.wire.disk import DiskReport


class RaftStatusRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Ask a manager how it sees the Raft group. Answered without a leader."""


class RaftMember(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A member as the answering manager sees it. What is None is not for it to know."""

    node_id: str
    node_name: str = ""
    member_id: int = 0
    addresses: tuple[str, ...] = ()
    is_voter: bool = True
    is_leader: bool = False
    reachability: Reachability = Reachability.UNKNOWN
    """On a leader whether it answers; on a follower whether there is a connection to it."""
    match: int | None = None
    """The last index that is on its disk. Only a leader knows that of others."""
    lag: int | None = None
    """Entries that it lacks of the leader's log."""
    last_contact_s: float | None = None
    """Seconds since it was last heard of; a follower hears of its leader only."""
    is_receiving_snapshot: bool = False
    disk: DiskReport | None = None
    """What is wrong with its disk, as far as the answering manager was told."""
    is_rolled_back: bool = False
    """It has less on its disk than it once acknowledged, and will be removed."""
    is_diverging: bool = False
    """A quorum of managers holds another state than it does, and it will be removed. Only a leader knows that."""


class RaftStatusReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The answering manager's own part, and all members. `answering` counts voters that can be reached, itself too."""

    node_id: str
    member_id: int = 0
    role: str = ""
    """`leader`, `follower`, `candidate` or `pre_candidate`."""
    term: int = 0
    leader_node_id: str = ""
    leader_contact_s: float | None = None
    """Seconds since a leader was heard (on the leader: since a majority answered); None: not since the start."""
    first_index: int = 0
    last_index: int = 0
    commit_index: int = 0
    applied_index: int = 0
    snapshot_index: int = 0
    voters: int = 0
    needed: int = 0
    answering: int = 0
    members: tuple[RaftMember, ...] = ()
    removed_members: int = 0
    """How many member ids are refused for ever."""
    digest_index: int = 0
    """The newest agreed index that the answering manager has passed, and its running digest there; 0: none yet."""
    digest: bytes = b""
    state_hash_index: int = 0
    """The same of the hash over all content, which is taken more seldom."""
    state_hash: bytes = b""
    digests_agree_at: int = 0
    """The newest agreed index at which a quorum of voters holds the same. Only a leader knows that; else 0."""
    digests_agreeing: int = 0
    """How many members have told theirs for that index."""
    diverges_at: int = 0
    """Where a quorum holds another state than the answering manager does; 0: as far as is known nowhere."""
    alarm: str = ""
    """What is wrong with the members' states and was not mended. Only the leader knows that of others."""


class RotateKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Have a manager seal its log and snapshots with a new data key. Each manager has keys of its own."""


class KeyRotated(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The new key is durable and in use. `old_keys` are still needed: sealing anew goes on in the background."""

    node_id: str
    key: int
    old_keys: tuple[int, ...] = ()
    problem: str = ""
    """Why the last try to seal everything anew did not succeed; it is tried again."""
