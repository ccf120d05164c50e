"""Links to the other members: one connection of class `raft` to each, kept up, and a synchronous `post`.

What cannot be handed to the socket at once is dropped and counted: Raft sends again.
"""

from __future__ import annotations

import logging
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
RECONNECT_S_MAX: Final = 2.0


class Dial(Protocol):
    """Opens a connection of class `raft` to an address."""

    def __call__(self, address: str) -> AbstractAsyncContextManager[Connection]: ...


class Peers:
    """Where messages to other members go.

    Args:
        own_id: this member.
        dial: opens a connection.
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
                    self._nursery.start_soon(self._keep_linked, member)

    def _drop(self, member_id: int) -> None:
        del self._members[member_id]
        scope = self._scopes.pop(member_id, None)
        if scope is not None:
            scope.cancel()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the links until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for member in self._members.values():
                nursery.start_soon(self._keep_linked, member)
            task_status.started()
            await trio.sleep_forever()

    def is_linked(self, member_id: int) -> bool:
        """Whether a connection to this member is up."""
        return member_id in self._connections

    def post(self, message: Message, runs: Sequence[EntryRun] = ()) -> bool:
        """Hand a message to its target's socket. False: not now, and it is gone."""
        connection = self._connections.get(message.target)
        if connection is None or not connection.post(RAFT_MESSAGES, encode_message(message, runs)):
            self.dropped += 1
            return False
        return True

    async def _keep_linked(self, member: Member) -> None:
        with trio.CancelScope() as scope:
            self._scopes[member.member_id] = scope
            wait_s = RECONNECT_S_MIN
            while True:
                was_linked = await self._link_once(member)
                self._on_unreachable(member.member_id)
                wait_s = RECONNECT_S_MIN if was_linked else min(2 * wait_s, RECONNECT_S_MAX)
                await trio.sleep(wait_s * (0.5 + self._rng.random() / 2))

    async def _link_once(self, member: Member) -> bool:
        """Connect to the first address that answers and stay until the connection is lost."""
        for address in member.addresses:
            try:
                async with self._dial(address) as connection:
                    if connection.peer.identity is None or connection.peer.identity.node_id != member.node_id:
                        log.warning("%s answers as another node than %s", address, member.node_id)
                        continue
                    await self._linked(member, connection)
                    return True
            except SwarmError as error:
                log.debug("manager %s at %s: %s", member.node_id, address, error)
        return False

    async def _linked(self, member: Member, connection: Connection) -> None:
        log.info("linked to manager %s at %s", member.node_id, connection.peer.address)
        self._connections[member.member_id] = connection
        try:
            await connection.closed.wait()
        finally:
            if self._connections.get(member.member_id) is connection:
                del self._connections[member.member_id]
        log.info("lost the link to manager %s", member.node_id)
