"""What a running manager does about its own place among the members: announces itself, and notices that it is out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import trio

from swarmd.errors import SwarmError
from swarmd.manager.assembly import JOIN_S_MAX
from swarmd.manager.raft_driver import RaftDriver
from swarmd.raft import Settings
from swarmd.transport.connection import Connection
from swarmd.wire.methods import RAFT_JOIN
from swarmd.wire.peer import JoinReply, JoinRequest

log = logging.getLogger(__name__)

READDRESS_RETRY_S: Final = 5.0
OUT_S: Final = 16.0
"""A manager that has known no leader, or has not been a member, for so long asks whether it still is one."""


class MemberReplaced(Exception):
    """The swarm let this node in under a new member id: the log here is a former member's, to be set aside."""


class Dial(Protocol):
    """Opens a connection of class `control` to an address."""

    def __call__(self, address: str) -> AbstractAsyncContextManager[Connection]: ...


class Announces(Protocol):
    """What is needed of `Parts`."""

    driver: RaftDriver

    async def join_as_known_member(self, request: JoinRequest) -> None:
        """Ask the leader to note new addresses. Raises `SwarmError`."""


class OwnMembership:
    """One instance for as long as the log is open.

    Args:
        request: this member's id and the addresses that it answers at now.
        known_addresses: where other managers may be, besides those that the log names.
    """

    def __init__(
        self,
        parts: Announces,
        request: JoinRequest,
        *,
        own_node_id: str,
        known_addresses: Callable[[], Sequence[str]],
        dial: Dial,
    ) -> None:
        self._parts = parts
        self._driver = parts.driver
        self._request = request
        self._own_node_id = own_node_id
        self._known_addresses = known_addresses
        self._dial = dial

    async def run(self) -> None:
        """Look after it until cancelled. Raises `MemberReplaced` (in a group)."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._announce_addresses)
            nursery.start_soon(self._notice_removal)

    async def _announce_addresses(self) -> None:
        """Tell the leader where this member answers now, until the log says so (identity is a key, not an address)."""
        while True:
            member = self._driver.configuration.member(self._request.member_id)
            if member is None or set(member.addresses) == set(self._request.addresses):
                await self._driver.changed.wait()
                continue
            try:
                await self._parts.join_as_known_member(self._request)
            except SwarmError as error:
                log.info("could not announce the new addresses yet: %s", error)
            with trio.move_on_after(READDRESS_RETRY_S):
                await self._driver.changed.wait()

    async def _notice_removal(self) -> None:
        """Raise `MemberReplaced` once this member was removed while its node is a manager still (or again).

        Nobody tells a member that it was removed. The leader alone knows, and whoever asks it to join is let in if he
        is no member: then what is here belongs to a member that is gone.
        """
        own_id = self._request.member_id
        while True:
            await self._wait_until_out()
            reply = await self._ask_who_we_are()
            if reply is not None and reply.member_id != own_id:
                raise MemberReplaced(f"this node was member {own_id:x} and is {reply.member_id:x} now")

    async def _wait_until_out(self) -> None:
        """Return once, for 16 s on end, no leader was known here or this was no member."""
        while True:
            while not self._is_out:
                await self._driver.changed.wait()
            with trio.move_on_after(OUT_S) as patience:
                while self._is_out:
                    await self._driver.changed.wait()
            if patience.cancelled_caught:
                return

    @property
    def _is_out(self) -> bool:
        return self._driver.leader == 0 or self._driver.configuration.member(self._request.member_id) is None

    async def _ask_who_we_are(self) -> JoinReply | None:
        members = self._driver.configuration.members
        by_log = [address for m in members if m.node_id != self._own_node_id for address in m.addresses]
        for address in dict.fromkeys([*by_log, *self._known_addresses()]):
            try:
                async with self._dial(address) as connection:
                    return await connection.call(RAFT_JOIN, self._request, timeout_s=JOIN_S_MAX)
            except SwarmError as error:
                log.debug("could not ask %s whether this manager still takes part: %s", address, error)
        return None


async def warn_of_other_ticks(driver: RaftDriver, own: Settings) -> None:
    """Tick settings belong to the swarm: say so, once, if this node was started with others."""
    while (cluster := driver.state.cluster()) is None:
        await driver.applied_more.wait()
    swarm = cluster.spec.raft
    if (own.heartbeat_ticks, own.election_ticks_min) != (swarm.heartbeat_tick, swarm.election_tick):
        log.warning(
            "this node runs with --heartbeat-tick %d --election-tick %d, and the swarm was founded with %d and %d: "
            "start it with those, or it may disturb elections",
            own.heartbeat_ticks,
            own.election_ticks_min,
            swarm.heartbeat_tick,
            swarm.election_tick,
        )
