"""The Raft group: the summary, and what a quorum comes to in words."""

from __future__ import annotations

from typing import Any

from swarmctl.render.layout import summary, table
from swarmctl.render.plain import plain
from swarmctl.render.text import elapsed
from swarmd.wire.control import Reachability
from swarmd.wire.disk import IN_SHORT
from swarmd.wire.raft_status import KeyRotated, RaftMember, RaftStatusReply

UNKNOWN = "-"


def raft_document(status: RaftStatusReply) -> Any:
    """The reply as plain data, with how many more may fail (negative: so many are missing); digests in hexadecimal."""
    hashes = {"digest": status.digest.hex(), "state_hash": status.state_hash.hex()}
    return plain(status) | hashes | {"failures_left": status.answering - status.needed}


def raft_summary(status: RaftStatusReply) -> str:
    """`raft status`."""
    leader = next((m for m in status.members if m.is_leader), None)
    lines = summary(
        [
            ("Member", f"{status.member_id:x} (node {status.node_id}), {status.role.replace('_', '-')}"),
            ("Term", str(status.term)),
            ("Leader", "none known" if leader is None else f"{leader.node_name or leader.node_id}, {_contact(status)}"),
            (
                "Log",
                f"entries {status.first_index} to {status.last_index}, snapshot at {status.snapshot_index or 'none'}",
            ),
            ("Commit", f"{status.commit_index}, applied {status.applied_index}"),
            ("Quorum", quorum_in_words(status.voters, status.needed, status.answering)),
            *_digests(status),
        ]
    )
    header = ("Node", "Member ID", "Vote", "Reachability", "Match", "Lag", "Last Contact", "Address")
    members = table(header, [_row(member, status) for member in status.members])
    note = "" if status.role == "leader" else _WHO_KNOWS
    return f"{lines}\n{members}{note}"


_WHO_KNOWS = "\nMatch and lag are the leader's to know, and who answers it: ask there.\n"


def rotation_in_words(rotated: KeyRotated) -> str:
    """`raft rotate-key`."""
    if not rotated.old_keys:
        return f"data key {rotated.key} seals everything on this manager's disk; no older one is left\n"
    old = f"key{_s_of(len(rotated.old_keys))} {', '.join(map(str, rotated.old_keys))}"
    reason = f" ({rotated.problem})" if rotated.problem else ""
    return (
        f"data key {rotated.key} seals from now on; {old} stay{_s(len(rotated.old_keys))} until everything is sealed "
        f"anew, which goes on in the background{reason}: the daemon's log tells when\n"
    )


def quorum_in_words(voters: int, needed: int, answering: int) -> str:
    """`3 voters, 2 needed, 3 answer: 1 may fail`."""
    counted = f"{voters} voter{'' if voters == 1 else 's'}, {needed} needed, {answering} answer{_s(answering)}"
    left = answering - needed
    if left < 0:
        return f"{counted}: no quorum, {-left} more must come back"
    return f"{counted}: {left or 'none'} may fail"


def _digests(status: RaftStatusReply) -> list[tuple[str, str]]:
    """How the members' states compare; nothing before the first index at which they are compared."""
    lines = []
    if status.digests_agree_at:
        told = f"{status.digests_agreeing} of {len(status.members)} members told theirs"
        lines.append(("Digest", f"agree at {status.digests_agree_at} ({told})"))
    elif status.digest_index:
        lines.append(("Digest", f"{status.digest.hex()[:12]} at {status.digest_index}"))
    if status.alarm:
        lines.append(("ALARM", status.alarm))
    return lines


def _s_of(count: int) -> str:
    """Of a noun."""
    return "" if count == 1 else "s"


def _s(count: int) -> str:
    """Of a verb."""
    return "s" if count == 1 else ""


def _contact(status: RaftStatusReply) -> str:
    if status.leader_contact_s is None:
        return "not heard yet"
    who = "a majority answered" if status.role == "leader" else "heard"
    return f"{who} {elapsed(status.leader_contact_s)} ago"


def _row(member: RaftMember, status: RaftStatusReply) -> list[str]:
    is_self = member.member_id == status.member_id
    marks = (" *" if member.is_leader else "") + (" (this)" if is_self else "")
    return [
        (member.node_name or member.node_id) + marks,
        f"{member.member_id:x}",
        "voter" if member.is_voter else "learner",
        _reachability(member),
        UNKNOWN if member.match is None else str(member.match),
        UNKNOWN if member.lag is None else str(member.lag),
        UNKNOWN if member.last_contact_s is None or is_self else f"{elapsed(member.last_contact_s)} ago",
        ", ".join(member.addresses),
    ]


def _reachability(member: RaftMember) -> str:
    if member.is_rolled_back:
        return "ROLLED BACK"
    if member.is_diverging:
        return "DIVERGING"
    snapshot = " (snapshot)" if member.is_receiving_snapshot else ""
    disk = f" ({IN_SHORT[member.disk.condition]})" if member.disk is not None else ""
    return Reachability(member.reachability).name + snapshot + disk
