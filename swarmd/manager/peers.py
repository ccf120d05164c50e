"""Links to the other members: each dials every other one; what is for a member leaves on the connection *it* dialed.

The server end of a WebSocket sends unmasked, which makes framing 40 KB cost 15 us instead of 140. What cannot be
handed to the socket at once is dropped and counted: Raft sends again.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import trio

from swarmd.errors import SwarmError
from swarmd.raft import Configuration, Member, Message
from swarmd.transport.connection import Connection
from swarmd.wire.methods import RAFT_MESSAGES
from swarmd.wire.raft_codec import EntryRun, encode_message

log = logging.getLogger(__name__)

RECONNECT_S_MIN: Final = 0.1
RECONNECT_S_MAX: Final = 1.0
DIAL_S_MAX: Final = 2.0
"""For one address. The kernel repeats what a cut swallowed after one second, then after two more: a new dial comes
sooner, and a member that is heard again is linked within about two seconds."""


REDIAL_S_MAX: Final = 5.0
LINGER_S: Final = 1.0


RAFT_CLASS: Final = "raft"


class Dial(Protocol):
    """Opens a connection of class `raft` to an address; its messages are served by the manager's router."""

    def __call__(self, address: str) -> AbstractAsyncContextManager[Connection]: ...


class Peers:
    """Where messages to other members go.

    Args:
        own_id: this member.
        dial: opens the connection on which the other member's messages will come.
        on_unreachable: told the member id each time a connection is lost or cannot be made.
    """

    def __init__(
        self,
        own_id: int,
        dial: Dial,
        rng: random.Random,
        *,
        on_unreachable: Callable[[int], None],
    ) -> None:
        self._own_id = own_id
        self._dial = dial
        self._rng = rng
        self._on_unreachable = on_unreachable
        self._members: dict[int, Member] = {}
        self._scopes: dict[int, trio.CancelScope] = {}
        self._connections: dict[int, Connection] = {}
        """Where messages to a member leave: the newest of those that it dialed."""
        self._accepted: dict[int, list[Connection]] = {}
        """All that it dialed and that are open, in order."""
        self._nursery: trio.Nursery | None = None
        self.dropped = 0

    def follow(self, configuration: Configuration) -> None:
        """Link to exactly these members. New addresses mean a new connection.

        An empty configuration changes nothing: a joiner's log says nothing yet, and it must answer whoever let it in.
        """
        if not configuration.members:
            return
        wanted = {m.member_id: m for m in configuration.members if m.member_id != self._own_id}
        for member_id in sorted(self._members):
            old, new = self._members[member_id], wanted.get(member_id)
            if new is None or new.addresses != old.addresses:
                self._drop(member_id)
        for member_id, member in sorted(wanted.items()):
            if member_id not in self._members:
                self._members[member_id] = member
                if self._nursery is not None:
                    self._link(self._nursery, member)

    def _link(self, nursery: trio.Nursery, member: Member) -> trio.Event:
        """Dial from now on; the event is set once there is a connection."""
        scope = self._scopes[member.member_id] = trio.CancelScope()
        linked = trio.Event()
        nursery.start_soon(self._keep_linked, member, scope, linked)
        return linked

    async def redial(self, node_id: str = "") -> None:
        """Dial this node's member (or every one, one after the other) anew: a certificate has changed, ours or its own.

        The old connection goes once the new one has taken over, so nothing is lost; where no new one can be had within
        5 s it stays. `Cancelled` leaves one of both.
        """
        for member in tuple(self._members.values()):
            if node_id in ("", member.node_id):
                await self._redial(member)

    async def _redial(self, member: Member) -> None:
        old = self._scopes.get(member.member_id)
        if self._nursery is None or old is None or self._members.get(member.member_id) is not member:
            return  # dropped, or changed its address, while others were dialed
        linked = self._link(self._nursery, member)
        new = self._scopes[member.member_id]
        with trio.move_on_after(REDIAL_S_MAX):
            await linked.wait()
        if not linked.is_set() and self._scopes.get(member.member_id) is new:
            new.cancel()
            self._scopes[member.member_id] = old
            log.info("manager %s cannot be dialed anew; the connection that there is stays", member.node_id)
            return
        # What is under way on the old connection arrives; the other end sends on the new one already.
        await trio.sleep(LINGER_S)
        old.cancel()

    def _drop(self, member_id: int) -> None:
        del self._members[member_id]
        scope = self._scopes.pop(member_id, None)
        if scope is not None:
            scope.cancel()  # also where its task has not run yet

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the links until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for member in self._members.values():
                self._link(nursery, member)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None  # who still asks for a link on the way out gets none

    def is_linked(self, member_id: int) -> bool:
        """Whether messages to this member can leave."""
        return member_id in self._connections

    def post(self, message: Message, runs: Sequence[EntryRun] = ()) -> bool:
        """Hand a message to its target's socket. False: not now, and it is gone."""
        connection = self._connections.get(message.target)
        if connection is None or not connection.post(RAFT_MESSAGES, encode_message(message, runs)):
            self.dropped += 1
            return False
        return True

    def accepted(self, connection: Connection) -> None:
        """A peer dialed us: if it is a member's Raft connection, what is for that member leaves on it from now on."""
        if connection.peer_hello.class_ == RAFT_CLASS and self._nursery is not None:
            self._nursery.start_soon(self._use, connection)

    async def _use(self, connection: Connection) -> None:
        node_id = connection.peer.identity.node_id if connection.peer.identity is not None else ""
        member = next((m for m in self._members.values() if m.node_id == node_id), None)
        if member is None:
            # A member that this log does not know yet dials again once we refuse it.
            await connection.aclose()
            return
        log.info("linked to manager %s at %s", node_id, connection.peer.address)
        accepted = self._accepted.setdefault(member.member_id, [])
        accepted.append(connection)
        self._connections[member.member_id] = connection
        try:
            await connection.closed.wait()
        finally:
            accepted.remove(connection)
            if self._connections.get(member.member_id) is connection:
                self._fall_back(member, accepted)

    def _fall_back(self, member: Member, accepted: list[Connection]) -> None:
        """Its newest connection is gone. A member may have two for a moment, when it dials anew, and which of them it
        keeps is its own affair."""
        self._on_unreachable(member.member_id)
        if accepted:
            self._connections[member.member_id] = accepted[-1]
        else:
            del self._connections[member.member_id]
            log.info("lost the link to manager %s", member.node_id)

    # -- the connections this member dials, for the others to send on ------------------------------------------

    async def _keep_linked(self, member: Member, scope: trio.CancelScope, linked: trio.Event) -> None:
        with scope:
            await trio.lowlevel.checkpoint_if_cancelled()  # removed before this task ran
            wait_s = RECONNECT_S_MIN
            while True:
                was_linked = await self._link_once(member, linked)
                wait_s = RECONNECT_S_MIN if was_linked else min(2 * wait_s, RECONNECT_S_MAX)
                await trio.sleep(wait_s * (0.5 + self._rng.random() / 2))

    async def _link_once(self, member: Member, linked: trio.Event) -> bool:
        """Connect to the first address that answers and stay until the connection is lost."""
        for address in member.addresses:
            try:
                with trio.fail_after(DIAL_S_MAX) as dialing:
                    async with self._dial(address) as connection:
                        dialing.deadline = math.inf
                        if connection.peer.identity is None or connection.peer.identity.node_id != member.node_id:
                            log.warning("%s answers as another node than %s", address, member.node_id)
                            continue
                        linked.set()
                        began = trio.current_time()
                        await connection.closed.wait()
                        return trio.current_time() - began > RECONNECT_S_MAX
            except trio.TooSlowError:
                log.debug("manager %s at %s: no answer within %g s", member.node_id, address, DIAL_S_MAX)
            except SwarmError as error:
                log.debug("manager %s at %s: %s", member.node_id, address, error)
        return False
