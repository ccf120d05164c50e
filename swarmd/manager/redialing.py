"""Keeps connections between managers as young as the certificates at their ends: dialed anew when either changes.

This node's own change is seen at its credentials, another manager's in the replicated state, which says with which
certificate its node was seen last. One connection after the other, the new one before the old one goes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Protocol

import trio

from swarmd.errors import Gone
from swarmd.manager.bell import Bell
from swarmd.model import Node, Role
from swarmd.state.command import Table
from swarmd.state.store import State
from swarmd.state.watch import Route
from swarmd.wire.identity import Identity

log = logging.getLogger(__name__)

EVERYBODY: Final = ""
EVENTS_QUEUED_MAX: Final = 10_000


class Peers(Protocol):
    """See `manager.peers.Peers`."""

    async def redial(self, node_id: str = "") -> None: ...


class LeaderLink(Protocol):
    """See `manager.proxy.LeaderLink`."""

    def redial(self, node_id: str = "") -> None: ...


class Changing(Protocol):
    """See `transport.credentials.Credentials`."""

    @property
    def changed(self) -> trio.Event: ...

    identity: Identity


class Redialing:
    """`run` it while the manager runs."""

    def __init__(
        self, credentials: Changing, peers: Peers, leader_link: LeaderLink, state: Callable[[], State]
    ) -> None:
        self._credentials = credentials
        self._peers = peers
        self._leader_link = leader_link
        self._state = state
        self._bell = Bell()
        self._pending: dict[str, None] = {}
        """Node ids to dial anew, in order; `EVERYBODY` for all."""
        self._seen: dict[str, str] = {}
        """Manager -> the certificate it was seen with."""
        self._moved_to = credentials.identity.fingerprint
        """The certificate of this node that all its connections were dialed with."""
        self._moved = trio.Event()

    async def run(self) -> None:
        """Dial anew whatever has changed, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow_own)
            nursery.start_soon(self._follow_others)
            while True:
                await self._bell.wait()
                while self._pending:
                    node_id = next(iter(self._pending))
                    del self._pending[node_id]
                    log.info("certificates changed: dialing %s anew", node_id or "the other managers")
                    shown = self._credentials.identity.fingerprint
                    self._leader_link.redial(node_id)
                    await self._peers.redial(node_id)
                    if node_id == EVERYBODY:
                        moved, self._moved, self._moved_to = self._moved, trio.Event(), shown
                        moved.set()

    async def until_moved(self) -> None:
        """Return once every other manager that could be reached was dialed with the certificate that this node has."""
        while self._moved_to != self._credentials.identity.fingerprint:
            await self._moved.wait()

    async def _follow_own(self) -> None:
        while True:
            await self._credentials.changed.wait()
            self._want(EVERYBODY)

    async def _follow_others(self) -> None:
        """A certificate that is seen for the first time is the one that its connections were made with."""
        while True:
            bell = Bell()
            nodes = self._state().subscribe([Route(Table.NODE)], wake=bell.ring, events_max=EVENTS_QUEUED_MAX)
            try:
                for node in self._state().nodes():
                    self._look_at(node)
                while True:
                    await bell.wait()
                    for event in nodes.take():
                        if isinstance(event.new, Node):
                            self._look_at(event.new)
                        else:
                            self._seen.pop(event.id, None)
            except Gone:
                log.debug("fell behind the nodes' certificates: looking at all of them again")
            finally:
                nodes.close()

    def _look_at(self, node: Node) -> None:
        seen = node.status.certificate
        if node.role is not Role.MANAGER or not seen:
            return
        before = self._seen.get(node.id, seen)
        self._seen[node.id] = seen
        if before != seen:
            self._want(node.id)

    def _want(self, node_id: str) -> None:
        self._pending[node_id] = None
        self._bell.ring()
