"""The last resort after a lost quorum: a group of this member alone, decided from its log. Pure; see DESIGN.md.

Everything in the log is kept. What others had acknowledged and never reached this disk is lost, and nobody here can
tell how much that is. The removals and the former managers' new role go to the end of the log, in one durable write.
"""

from __future__ import annotations

import random
from typing import Final

import msgspec

from swarmd.errors import FailedPrecondition, Internal
from swarmd.manager.offline import NOT_COMMITTED, OfflineLog, apply
from swarmd.manager.payload_rotation import replace_payload_key
from swarmd.model import Node, Role
from swarmd.raft import ChangeKind, Configuration, Entry, EntryKind, HardState, Member, MembershipChange, encode_change
from swarmd.raft.membership import apply_change
from swarmd.state.command import CommandId, encode_command
from swarmd.state.store import State

ACTOR: Final = "force-new-cluster"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to write, and what to tell before. Without entries there is nothing to do: this member is alone already."""

    own: Member
    others: tuple[Member, ...]
    """Members that are removed for good."""
    demoted: tuple[str, ...]
    """Node ids of managers whose records become workers'."""
    hard_state: HardState
    entries: tuple[Entry, ...]
    lines: tuple[str, ...]


def plan_alone(log: OfflineLog, *, now: float, rng: random.Random) -> Plan:
    """How this member becomes the whole group.

    A new term of its own separates the entries from whatever another member may have written. Raises
    `FailedPrecondition` if it is no member (any more), `StorageDamaged`, `Invalid` for a log of a newer version.
    """
    configuration = log.configuration()
    own = configuration.member(log.identity.member_id)
    if own is None:
        raise FailedPrecondition(
            f"member {log.identity.member_id:x} is no member of the group in its own log",
            hint="it was removed, or never let in: recover on another manager, or from a backup",
        )
    others = tuple(m for m in configuration.members if m.member_id != own.member_id)
    if not others and own.is_voter:
        return Plan(own=own, others=(), demoted=(), hard_state=log.stored.hard_state, entries=(), lines=())
    state = log.replay(log.last_index)
    lost = {member.node_id for member in others}
    former = tuple(node for node in state.nodes() if node.id in lost and _is_manager(node))
    term = max(log.stored.hard_state.term, log.last_term) + 1
    entries = _config_entries(log, configuration, own, others, term)
    for entry in entries:
        apply(state, entry)
    if former:
        entries.append(_demotion(state, former, own, term, now, rng))
    last = entries[-1].index if entries else log.last_index
    return Plan(
        own=own,
        others=others,
        demoted=tuple(node.id for node in former),
        hard_state=HardState(term=term, voted_for=own.member_id, commit=last),
        entries=tuple(entries),
        lines=tuple(_tell(log, own, others, former)),
    )


def _is_manager(node: Node) -> bool:
    return Role.MANAGER in (node.role, node.spec.desired_role)


def _config_entries(
    log: OfflineLog, configuration: Configuration, own: Member, others: tuple[Member, ...], term: int
) -> list[Entry]:
    """A learner is made a voter first: the last voter cannot be removed."""
    changes = [] if own.is_voter else [MembershipChange(kind=ChangeKind.PROMOTE, member=own)]
    changes += [MembershipChange(kind=ChangeKind.REMOVE, member=member) for member in others]
    for change in changes:
        configuration = apply_change(configuration, change)
    if configuration.voters != (own.member_id,) or len(configuration.members) != 1:
        raise Internal(f"these changes leave {len(configuration.members)} members")
    return [
        Entry(index, term, EntryKind.CONFIG, encode_change(change))
        for index, change in enumerate(changes, log.last_index + 1)
    ]


def _demotion(state: State, former: tuple[Node, ...], own: Member, term: int, now: float, rng: random.Random) -> Entry:
    """Former managers become workers, so that nobody has to demote what is no member, and one that comes back lays its
    log down by itself. Whether they are up stays the dispatcher's to find out."""
    tx = state.begin(now, rng)
    for seen in former:
        node = tx.node(seen.id)
        assert node is not None
        spec = msgspec.structs.replace(node.spec, desired_role=Role.WORKER)
        tx.update(msgspec.structs.replace(node, role=Role.WORKER, spec=spec))
    replace_payload_key(tx)  # which they all knew
    command = tx.command(CommandId(own.member_id, rng.randbytes(16), 0), actor=ACTOR)
    entry = Entry(state.index + 1, term, EntryKind.DATA, encode_command(command))
    apply(state, entry)
    if any(_is_manager(node) for node in state.nodes() if node.id in {seen.id for seen in former}):
        raise Internal("the former managers could not be made workers")
    return entry


def _tell(log: OfflineLog, own: Member, others: tuple[Member, ...], former: tuple[Node, ...]) -> list[str]:
    """What is about to happen, and what it may cost."""
    names = {node.id: node.spec.name or node.description.hostname or node.id for node in former}
    lines = [
        f"forming a new group of this manager alone (node {own.node_id}, member {own.member_id:x}): "
        f"all data up to index {log.last_index} of term {log.last_term} is kept",
        *(
            f"removed for good: {names.get(m.node_id, m.node_id)} (node {m.node_id}, member {m.member_id:x}); it is a "
            "worker from now on"
            for m in others
        ),
        "what other managers acknowledged and this disk never received is lost, silently",
        "if any of the removed managers still runs, stop it now: two groups would give the same nodes different orders",
    ]
    uncertain = log.last_index - log.known_commit
    if uncertain:
        lines.append(
            f"{uncertain} entries, from {log.known_commit + 1} on, are {NOT_COMMITTED}: they are kept and take effect, "
            "although their authors may have been told nothing"
        )
    if not own.is_voter:
        lines.append("this manager was still catching up when the others were lost: expect that much is missing")
    return lines
