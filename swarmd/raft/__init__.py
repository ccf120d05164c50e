"""How managers agree: the Raft core, its log, quorums and `Ready`. Must not know seconds, disks, what entries mean."""

from swarmd.raft.core import RaftCore
from swarmd.raft.membership import bootstrap_configuration, decode_change, encode_change
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
    "bootstrap_configuration",
    "decode_change",
    "encode_change",
]
