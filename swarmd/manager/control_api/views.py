"""What the control API is told by the rest of the manager and never stores: Raft's live facts, this node's own."""

from __future__ import annotations

from typing import Protocol

import msgspec

from swarmd.wire.control import Reachability
from swarmd.wire.disk import DiskReport


class MemberView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A member of the Raft group as this manager sees it. It sees itself as reachable."""

    member_id: int
    node_id: str
    addresses: tuple[str, ...] = ()
    is_voter: bool = True
    reachability: Reachability = Reachability.UNKNOWN
    disk: DiskReport | None = None
    """What is wrong with its disk; None if nothing is known to be."""


class MemberDetail(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """More of a member, as far as this manager knows it."""

    match: int | None = None
    lag: int | None = None
    last_contact_s: float | None = None
    is_receiving_snapshot: bool = False
    is_rolled_back: bool = False
    is_diverging: bool = False


class DigestDetail(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is known here of this manager's state compared with the others'; see `RaftStatusReply`."""

    index: int = 0
    digest: bytes = b""
    hashed_index: int = 0
    state_hash: bytes = b""
    agree_at: int = 0
    agreeing: int = 0
    diverges_at: int = 0
    alarm: str = ""


class RaftDetail(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """This manager's own part in Raft."""

    member_id: int
    role: str
    first_index: int
    last_index: int
    snapshot_index: int
    removed_members: int
    members: dict[int, MemberDetail] = {}
    """By member id; nothing is known of one that is not here."""
    digests: DigestDetail = DigestDetail()


class RaftView(Protocol):
    """Raft's facts at this moment. Reading them is cheap and never waits."""

    @property
    def is_leader(self) -> bool:
        """Whether this manager leads."""
        ...

    @property
    def leader_node_id(self) -> str:
        """The leader's node id; empty while none is known."""
        ...

    @property
    def term(self) -> int: ...

    @property
    def commit_index(self) -> int: ...

    @property
    def leader_contact_s(self) -> float | None:
        """Seconds since a leader was heard, or, on the leader, since a majority answered; None: not since the start."""
        ...

    def detail(self) -> RaftDetail:
        """For whoever looks closely."""
        ...

    def members(self) -> tuple[MemberView, ...]:
        """Every member, voters and learners."""
        ...


class LocalNode(Protocol):
    """This node, for `status`."""

    @property
    def node_id(self) -> str: ...

    @property
    def swarm_id(self) -> str: ...

    @property
    def remote_addresses(self) -> tuple[str, ...]:
        """Where peers reach this manager."""
        ...

    @property
    def session(self) -> str:
        """`connected`, or why this node's own agent has no session."""
        ...


def member_of(raft: RaftView, node_id: str) -> MemberView | None:
    """The member that this node is, if it is one."""
    return next((member for member in raft.members() if member.node_id == node_id), None)


def removal_problem(members: tuple[MemberView, ...], member_id: int) -> str | None:
    """Why removing this member would leave the swarm without a quorum; None if it is safe.

    Safe means that the live voters are a majority both of the voters before and of those after (foundations:
    Learner, guard). A learner's removal changes no majority.
    """
    voters = [member for member in members if member.is_voter]
    live = {member.member_id for member in voters if member.reachability is Reachability.REACHABLE}
    remaining = {member.member_id for member in voters} - {member_id}
    if len(remaining) == len(voters):
        return None
    if not remaining:
        return "it is the last voter"
    for size, answering, when in ((len(voters), len(live), "now"), (len(remaining), len(live & remaining), "after")):
        needed = size // 2 + 1
        if answering < needed:
            return f"{when}, {answering} of {size} managers would answer and {needed} are needed"
    return None
