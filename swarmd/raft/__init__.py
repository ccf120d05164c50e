"""How managers agree: the Raft core, its log, quorums and `Ready`. Must not know seconds, disks, or what entries mean."""

from swarmd.raft.core import RaftCore
from swarmd.raft.types import (
    ChangeKind,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Member,
    MemberId,
    MembershipChange,
    Message,
    MessageType,
    ProgressView,
    RaftRole,
    ReadReady,
    Ready,
    Settings,
    SnapshotMeta,
)

__all__ = [
    "ChangeKind",
    "Configuration",
    "Entry",
    "EntryKind",
    "HardState",
    "Member",
    "MemberId",
    "MembershipChange",
    "Message",
    "MessageType",
    "ProgressView",
    "RaftCore",
    "RaftRole",
    "ReadReady",
    "Ready",
    "Settings",
    "SnapshotMeta",
]
