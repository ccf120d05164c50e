"""What a message must look like before anything is done with it."""

from __future__ import annotations

from typing import Final

from swarmd.errors import Invalid
from swarmd.raft.membership import decode_change
from swarmd.raft.types import EntryKind, MembershipChange, Message, MessageType

POSITION_MAX: Final = 1 << 62
"""Indexes and terms stay below: a disk counts in 63 bits, and an election still has room to add one."""
CONTEXT_MAX: Final = 1 << 63

FROM_LEADER: Final = frozenset(
    {MessageType.APPEND, MessageType.HEARTBEAT, MessageType.SNAPSHOT, MessageType.TIMEOUT_NOW}
)
"""Only a term's leader says these, so they name it."""
REPLIES: Final = frozenset(
    {
        MessageType.PRE_VOTE_REPLY,
        MessageType.VOTE_REPLY,
        MessageType.APPEND_REPLY,
        MessageType.HEARTBEAT_REPLY,
        MessageType.READ_INDEX_REPLY,
    }
)
"""These are answers: they count only from members we could have asked."""


def is_well_formed(message: Message) -> bool:
    """Whether every number is in its range."""
    return (
        message.source > 0
        and 0 < message.term < POSITION_MAX
        and 0 <= message.index < POSITION_MAX
        and 0 <= message.log_term < POSITION_MAX
        and 0 <= message.commit < POSITION_MAX
        and 0 <= message.hint < POSITION_MAX
        and 0 <= message.hint_term < POSITION_MAX
        and 0 <= message.context < CONTEXT_MAX
    )


def changes_in(message: Message) -> list[tuple[int, MembershipChange]] | None:
    """The membership changes among an APPEND's entries; None if these are no run of a log.

    A change that this version cannot read makes the whole message unusable: it is neither taken nor acknowledged, so
    this member falls behind visibly instead of having another configuration than its peers.
    """
    index, term = message.index, message.log_term
    changes: list[tuple[int, MembershipChange]] = []
    for entry in message.entries:
        index += 1
        if entry.index != index or entry.term < term:
            return None
        term = entry.term
        if entry.kind is EntryKind.CONFIG:
            try:
                changes.append((index, decode_change(entry.body)))
            except Invalid:
                return None
    return None if term > message.term or (message.entries and not term) else changes
