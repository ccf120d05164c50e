"""Who is a member: joining, leaving, new addresses. The leader alone decides, one change at a time.

Raft's own guard refuses what could cost the quorum; this file adds who is asking and whether he answers.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import trio

from swarmd.errors import FailedPrecondition, NotFound, PermissionDenied, SwarmError, Unauthenticated
from swarmd.manager.raft_driver import RaftDriver
from swarmd.model import Role
from swarmd.raft import ChangeKind, Configuration, Member, MembershipChange
from swarmd.transport.connection import Call, Connection
from swarmd.wire.methods import HEALTH
from swarmd.wire.peer import HealthRequest, JoinReply, JoinRequest, LeaveRequest, Nothing

log = logging.getLogger(__name__)

DIAL_BACK_S_MAX: Final = 5.0


class Dial(Protocol):
    """Opens a connection of class `control` to an address."""

    def __call__(self, address: str) -> AbstractAsyncContextManager[Connection]: ...


class Members:
    """The membership of the Raft group, as its leader changes it."""

    def __init__(self, driver: RaftDriver, own_node_id: str, dial: Dial, rng: random.Random) -> None:
        self._driver = driver
        self._own_node_id = own_node_id
        self._dial = dial
        self._rng = rng
        self._lock = trio.Lock()

    @property
    def own_node_id(self) -> str:
        """The node that this manager is."""
        return self._own_node_id

    def configuration(self) -> Configuration:
        """The latest in the log."""
        return self._driver.configuration

    async def join(self, call: Call, request: JoinRequest) -> JoinReply:
        """Handler of `raft.join`: make the caller a learner, or note its new addresses.

        A caller that does not know its member id has a new disk: the member it was is removed, and it gets a new id.
        """
        node_id = self._caller(call)
        self._check_features(request.features)
        async with self._lock:
            await self._dial_back(node_id, request.addresses)
            member = self.configuration().member_of_node(node_id)
            if member is not None and member.member_id == request.member_id:
                await self._readdress(member, request.addresses)
                return JoinReply(member_id=member.member_id, configuration=self.configuration())
            if member is not None:
                log.warning("manager %s comes back with a new disk: its old member is removed", node_id)
                await self._change(ChangeKind.REMOVE, member)
            member = self._new_member(node_id, request.addresses)
            await self._change(ChangeKind.ADD_LEARNER, member)
            return JoinReply(member_id=member.member_id, configuration=self.configuration())

    async def leave(self, call: Call, request: LeaveRequest) -> Nothing:
        """Handler of `raft.leave`: remove the caller, and nobody else."""
        await self.remove_member(self._caller(call))
        return Nothing()

    async def remove_member(self, node_id: str) -> None:
        """Remove this node's member; absent is fine. Raises `FailedPrecondition` if that could cost the quorum."""
        async with self._lock:
            member = self.configuration().member_of_node(node_id)
            if member is not None:
                await self._change(ChangeKind.REMOVE, member)

    async def remove_exactly(self, member: Member) -> None:
        """Remove this member, and not the one that its node may have become meanwhile. Raises as `remove_member`."""
        async with self._lock:
            if self.configuration().member(member.member_id) is not None:
                await self._change(ChangeKind.REMOVE, member)

    async def readdress(self, node_id: str, addresses: tuple[str, ...]) -> None:
        """Note where this member answers now (the leader's own new addresses)."""
        async with self._lock:
            member = self.configuration().member_of_node(node_id)
            if member is not None:
                await self._readdress(member, addresses)

    async def transfer_leadership(self) -> None:
        """Hand the lead to the best follower and return once this manager has lost it (or after 5 s)."""
        self._driver.transfer_leadership()
        with trio.move_on_after(DIAL_BACK_S_MAX):
            while self._driver.core.is_leader:
                await self._driver.changed.wait()

    def _caller(self, call: Call) -> str:
        identity = call.caller.identity
        if identity is None:
            raise Unauthenticated("only a manager with a certificate may join")
        node = self._driver.state.node(identity.node_id)
        if node is None:
            raise NotFound(f"node {identity.node_id} is not known to this swarm")
        if node.role is not Role.MANAGER or node.spec.desired_role is not Role.MANAGER:
            raise PermissionDenied(f"node {identity.node_id} is not (any more) a manager")
        return identity.node_id

    def _check_features(self, features: Sequence[str]) -> None:
        """A manager that lacks what the log may use would stop at the first entry that uses it."""
        cluster = self._driver.state.cluster()
        lacking = sorted(set(cluster.feature_level if cluster is not None else ()) - set(features))
        if lacking:
            raise FailedPrecondition(
                f"this swarm already uses what the new manager does not know: {', '.join(lacking)}",
                hint="install the swarmd version that the other managers run",
            )

    async def _dial_back(self, node_id: str, addresses: Sequence[str]) -> None:
        """The group must be able to reach a member; ask it before it counts."""
        reasons = []
        for address in addresses:
            try:
                with trio.fail_after(DIAL_BACK_S_MAX):
                    async with self._dial(address) as connection:
                        identity = connection.peer.identity
                        await connection.call(HEALTH, HealthRequest())
                if identity is not None and identity.node_id == node_id:
                    return
                reasons.append(f"{address} is another node")
            except SwarmError as error:
                reasons.append(f"{address}: {error}")
            except trio.TooSlowError:
                reasons.append(f"{address}: no answer within {DIAL_BACK_S_MAX:.0f} s")
        raise FailedPrecondition(
            f"could not reach the new manager at its advertised address ({'; '.join(reasons) or 'none given'})",
            hint="check the firewall, or start it with --advertise-remote-api HOST:PORT",
        )

    def _new_member(self, node_id: str, addresses: Sequence[str]) -> Member:
        configuration = self.configuration()
        taken = {m.member_id for m in configuration.members} | set(configuration.removed)
        member_id = 0
        while member_id == 0 or member_id in taken:
            member_id = self._rng.getrandbits(63)
        return Member(member_id=member_id, node_id=node_id, addresses=tuple(addresses))

    async def _readdress(self, member: Member, addresses: tuple[str, ...]) -> None:
        if addresses and addresses != member.addresses:
            moved = Member(
                member_id=member.member_id, node_id=member.node_id, addresses=addresses, is_voter=member.is_voter
            )
            await self._change(ChangeKind.UPDATE_ADDRESSES, moved)

    async def _change(self, kind: ChangeKind, member: Member) -> None:
        await self._driver.change_membership(MembershipChange(kind=kind, member=member))
        log.info("membership: %s %x (node %s)", kind.name.lower(), member.member_id, member.node_id)
