"""Lets each node's role follow what the operator wants, never ahead of Raft (reference raft-store-node 4.5).

`role` is what the CA certifies now. A worker certificate for a node that still counts in Raft would cost quorum, and a
manager certificate is all that is needed to join it; so a demoted node leaves Raft before its role changes.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import msgspec
import trio

from swarmd.errors import FailedPrecondition
from swarmd.manager.loops.keyed import KeyedLoop
from swarmd.manager.payload_rotation import replace_payload_key
from swarmd.manager.proposer import Store
from swarmd.model import Node, Role
from swarmd.raft import Configuration
from swarmd.state.command import Table
from swarmd.state.transaction import Transaction
from swarmd.state.watch import Event, Route

log = logging.getLogger(__name__)

ACTOR: Final = "leader:role-manager"
PENDING_S: Final = 5.0
"""Between tries while a change is not safe yet (SwarmKit `roleReconcileInterval`)."""


class Membership(Protocol):
    """Raft's members, as its leader sees and changes them."""

    @property
    def own_node_id(self) -> str:
        """The node that this manager is."""
        ...

    def configuration(self) -> Configuration:
        """The latest in the log."""
        ...

    async def remove_member(self, node_id: str) -> None:
        """Remove this node's member; absent is fine. Raises `FailedPrecondition` if that could cost the quorum."""
        ...

    async def transfer_leadership(self) -> None:
        """Hand the lead to another member. Raises `FailedPrecondition` if nobody could take it."""
        ...


class RoleManagerLoop:
    """One instance per reign."""

    name: str = "role of node"
    routes: tuple[Route, ...] = (Route(Table.NODE), Route(Table.REMOVED_NODE))

    def __init__(self, store: Store, membership: Membership, *, now: Callable[[], float], rng: random.Random) -> None:
        self._store = store
        self._membership = membership
        self._now = now
        self._loop = KeyedLoop(store, self, now=now, rng=rng)
        self._told: dict[str, str] = {}
        """Node id -> why its change waits, so that it is logged once."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow roles until cancelled. Raises `Unavailable` (in a group) once this manager does not lead."""
        await self._loop.run(task_status=task_status)

    def all_keys(self) -> Iterable[str]:
        """Every node, and every member's, whose node may be gone."""
        keys = dict.fromkeys(node.id for node in self._store.state.nodes())
        keys.update(dict.fromkeys(member.node_id for member in self._membership.configuration().members))
        return keys

    def keys_of(self, event: Event) -> Iterable[str]:
        """A node whose wanted role and role differ, or that is gone."""
        match event.new:
            case Node() as node if node.role is node.spec.desired_role:
                return ()
            case _:
                return (event.id,)

    async def look(self, key: str) -> float | None:
        """One step for one node; while more is to be done, when to take the next."""
        state = self._store.state
        node = state.node(key)
        is_member = self._membership.configuration().member_of_node(key) is not None
        if node is None:
            # Not in the removed table: a node whose record is about to appear. Never guess with the quorum.
            if is_member and state.removed_node(key) is not None:
                return await self._leave_raft(key)
            self._told.pop(key, None)
            return None
        if node.role is node.spec.desired_role:
            self._told.pop(key, None)
            return None
        if node.role is Role.MANAGER and is_member:
            return await self._leave_raft(key)
        role = node.spec.desired_role
        has_changed, _ = await self._store.update(lambda tx: follow_role(tx, key, role), actor=ACTOR, fenced=True)
        if has_changed:
            log.info("node %s: role is now %s", key, role.name.lower())
        return None

    async def _leave_raft(self, node_id: str) -> float:
        """Take the node out of Raft if that is safe now; the next step is due at once, else after `PENDING_S`."""
        try:
            if node_id != self._membership.own_node_id:
                await self._membership.remove_member(node_id)
            else:
                await self._step_down()
        except FailedPrecondition as refusal:
            if self._told.get(node_id) != refusal.message:
                log.warning("node %s stays a manager for now: %s", node_id, refusal)
                self._told[node_id] = refusal.message
            return self._now() + PENDING_S
        is_member = self._membership.configuration().member_of_node(node_id) is not None
        return self._now() + (PENDING_S if is_member else 0.0)

    async def _step_down(self) -> None:
        """Leave the rest to the next leader: it cannot be in doubt whether its own removal took effect."""
        try:
            await self._membership.transfer_leadership()
        except FailedPrecondition as refusal:
            log.warning("nobody to hand the lead to (%s): this manager removes itself", refusal)
            await self._membership.remove_member(self._membership.own_node_id)


def follow_role(tx: Transaction, node_id: str, role: Role) -> bool:
    """Set the node's role, if that is still what is wanted; whether it was. Who ceases to be a manager knew the key of
    payloads: it is replaced."""
    node = tx.node(node_id)
    if node is None or node.spec.desired_role is not role or node.role is role:
        return False
    if node.role is Role.MANAGER:
        replace_payload_key(tx)
    tx.update(msgspec.structs.replace(node, role=role))
    return True
