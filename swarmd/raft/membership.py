"""Who takes part: single-step changes, what they do to a configuration, and when one is safe.

Sources: Ongaro's dissertation, chapter 4 (single-server changes, used from append) and section 4.2.1 (learners).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import cbor2
import msgspec

from swarmd.errors import FailedPrecondition, Invalid
from swarmd.raft.quorum import failures_tolerated, is_quorum
from swarmd.raft.types import (
    ChangeKind,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Member,
    MembershipChange,
)

CHANGE_DEPTH_MAX: Final = 8
MEMBER_ID_MAX: Final = (1 << 63) - 1
_CHANGE_FIELDS: Final = frozenset(MembershipChange.__struct_fields__)
_MEMBER_FIELDS: Final = frozenset(Member.__struct_fields__)


def encode_change(change: MembershipChange) -> bytes:
    """The body of a CONFIG entry."""
    return cbor2.dumps(msgspec.to_builtins(change, builtin_types=(bytes,)))


def decode_change(body: bytes) -> MembershipChange:
    """What `encode_change` wrote. Raises `Invalid` for anything else, a field of a later version included: a member
    that skipped what it does not understand would have another configuration than its peers."""
    try:
        raw: Any = cbor2.loads(body, max_depth=CHANGE_DEPTH_MAX, allow_duplicate_keys=False, allow_indefinite=False)
        change = msgspec.convert(raw, MembershipChange)
        unknown = (set(raw) - _CHANGE_FIELDS) | (set(raw["member"]) - _MEMBER_FIELDS)
    except (cbor2.CBORDecodeError, msgspec.ValidationError, ValueError, TypeError, OverflowError) as error:
        raise Invalid(f"undecodable membership change of {len(body)} bytes: {error}") from error
    if unknown:
        raise Invalid(f"membership change with unknown fields {sorted(map(str, unknown))}")
    if not 0 < change.member.member_id <= MEMBER_ID_MAX:
        raise Invalid(f"membership change with the impossible member id {change.member.member_id}")
    return change


def bootstrap_configuration(member: Member) -> tuple[HardState, tuple[Entry, ...]]:
    """What the log of a new swarm starts with: `member` added and made a voter, both committed in term 1.

    Make both durable, then start `RaftCore` with them. The founding is in the log rather than beside it, so that a
    member that joins later and replays from index 1 sees the founder too.
    """
    add = MembershipChange(kind=ChangeKind.ADD_LEARNER, member=member)
    promote = MembershipChange(kind=ChangeKind.PROMOTE, member=member)
    entries = tuple(
        Entry(index, 1, EntryKind.CONFIG, encode_change(change)) for index, change in enumerate((add, promote), 1)
    )
    return HardState(term=1, voted_for=member.member_id, commit=len(entries)), entries


def refusal(configuration: Configuration, change: MembershipChange) -> str | None:
    """Why `change` makes no sense in `configuration`; None if it does. The same answer on every member."""
    member_id, present = change.member.member_id, configuration.member(change.member.member_id)
    match change.kind:
        case ChangeKind.ADD_LEARNER:
            if member_id in configuration.removed:
                return f"member {member_id} was removed, and a removed id never comes back"
            if present is not None:
                return f"member {member_id} takes part already"
            if configuration.member_of_node(change.member.node_id) is not None:
                return f"node {change.member.node_id} takes part already under another member id"
        case ChangeKind.PROMOTE:
            if present is None or present.is_voter:
                return f"member {member_id} is not a learner"
        case ChangeKind.REMOVE:
            if present is None:
                return f"member {member_id} does not take part"
            if configuration.voters == (member_id,):
                return f"member {member_id} is the last voter"
        case ChangeKind.UPDATE_ADDRESSES:
            if present is None:
                return f"member {member_id} does not take part"
    return None


def apply_change(configuration: Configuration, change: MembershipChange) -> Configuration:
    """The configuration after `change`; unchanged if it makes no sense (on every member alike)."""
    if refusal(configuration, change) is not None:
        return configuration
    member_id = change.member.member_id
    members = {member.member_id: member for member in configuration.members}
    removed = configuration.removed
    match change.kind:
        case ChangeKind.ADD_LEARNER:
            members[member_id] = msgspec.structs.replace(change.member, is_voter=False)
        case ChangeKind.PROMOTE:
            members[member_id] = msgspec.structs.replace(members[member_id], is_voter=True)
        case ChangeKind.REMOVE:
            del members[member_id]
            removed = (*removed, member_id)
        case ChangeKind.UPDATE_ADDRESSES:
            members[member_id] = msgspec.structs.replace(members[member_id], addresses=change.member.addresses)
    return Configuration(members=tuple(members[key] for key in sorted(members)), removed=removed)


def check_change(
    configuration: Configuration, change: MembershipChange, live: Collection[int], *, force: bool = False
) -> Configuration:
    """The configuration after `change`. Raises `FailedPrecondition` if it makes no sense, or, without `force`, if the
    `live` members are no quorum of the voters before and after it: it might never commit, or be the last to.
    """
    reason = refusal(configuration, change)
    if reason is not None:
        raise FailedPrecondition(f"the membership does not change: {reason}")
    after = apply_change(configuration, change)
    if force or after.voters == configuration.voters:
        return after
    if not is_quorum(live, configuration.voters) or not is_quorum(live, after.voters):
        raise FailedPrecondition(
            f"{change.kind.name.lower()} of member {change.member.member_id} could cost the quorum: "
            f"{_arithmetic(configuration.voters, live)} before, {_arithmetic(after.voters, live)} after",
            hint="bring the missing managers back first, or remove one that is down",
        )
    return after


def _arithmetic(voters: Collection[int], live: Collection[int]) -> str:
    answering = sum(1 for voter in voters if voter in live)
    return f"{answering} of {len(voters)} voters answer (failures tolerated: {failures_tolerated(len(voters))})"
