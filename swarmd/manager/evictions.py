"""Ends the connections of nodes that may not speak (like that) any more, on every manager, once its state says so.

The doors refuse such a node's next connection and its next call; this ends what was let in before. It also knows which
certificates of managers nobody should trust any more, for the nodes that dial.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from swarmd.errors import Gone, PermissionDenied
from swarmd.manager.bell import Bell
from swarmd.manager.certificates import distrusted
from swarmd.model import Node, RemovedNode, Role
from swarmd.state.command import Table
from swarmd.state.store import State
from swarmd.state.watch import Event, Route
from swarmd.wire.authorise import Standings, present_role
from swarmd.wire.identity import Caller

log = logging.getLogger(__name__)


class Evictable(Protocol):
    """An open connection."""

    @property
    def peer(self) -> Caller: ...

    def abort(self, reason: str) -> None: ...


class Evictions:
    """Follows the nodes of a state.

    Args:
        state: the present state; another object after a snapshot was restored.
        connections: those that are open at this moment.
        on_revoked: called when `revoked` has changed.
    """

    def __init__(
        self,
        state: Callable[[], State],
        standings: Standings,
        connections: Callable[[], Iterable[Evictable]],
        *,
        now: Callable[[], float],
        on_revoked: Callable[[], None],
    ) -> None:
        self._state = state
        self._standings = standings
        self._connections = connections
        self._now = now
        self._on_revoked = on_revoked
        self._distrusted: dict[str, tuple[str, ...]] = {}
        self.revoked: tuple[str, ...] = ()
        """Fingerprints of certificates that pass for a manager's and are none's any more, sorted."""

    async def run(self) -> None:
        """Until cancelled. Judges every connection at first: those that came before the log was open were not."""
        while True:
            bell = Bell()
            subscription = self._state().subscribe([Route(Table.NODE), Route(Table.REMOVED_NODE)], wake=bell.ring)
            try:
                self._judge_all()
                while True:
                    await bell.wait()
                    self._follow(subscription.take())
            except Gone:
                log.debug("nodes changed faster than they were followed: all are judged anew")
            finally:
                subscription.close()

    def judge(self, connection: Evictable) -> None:
        """End this connection if its peer may say nothing: it was let in, and the state has moved while it greeted."""
        identity = connection.peer.identity
        if identity is None:
            return
        try:
            present_role(identity, self._standings)
        except PermissionDenied as refusal:
            self._end(connection, refusal.message)

    def _judge_all(self) -> None:
        """After a gap it is not known who was demoted meanwhile: whoever is a worker now and showed a manager's
        certificate starts over."""
        state, now = self._state(), self._now()
        self._distrusted = {}
        for node in state.nodes():
            self._distrust(node.id, distrusted(node, now))
        for removed in state.removed_nodes():
            self._distrust(removed.id, removed.fingerprints)
        self._tell()
        for connection in tuple(self._connections()):
            self.judge(connection)
        for node in state.nodes():
            if node.role is not Role.MANAGER and node.id in self._distrusted:
                self._demoted(node.id)

    def _follow(self, events: Iterable[Event]) -> None:
        now = self._now()
        for event in events:
            old, new = event.old, event.new
            if isinstance(new, RemovedNode):
                self._distrust(new.id, new.fingerprints)
                self._judge_node(new.id)
            elif isinstance(new, Node):
                self._distrust(new.id, distrusted(new, now))
                if isinstance(old, Node):
                    self._changed(old, new)
            elif isinstance(old, RemovedNode):
                self._distrust(old.id, ())
            elif self._standings.of(event.id) is None:
                self._distrust(event.id, ())
                self._judge_node(event.id)
        self._tell()

    def _changed(self, old: Node, new: Node) -> None:
        if old.role is Role.MANAGER and new.role is not Role.MANAGER:
            self._demoted(new.id)
        if old.certificate.earlier != new.certificate.earlier:
            self._judge_node(new.id)

    def _demoted(self, node_id: str) -> None:
        """Streams that were opened as a manager end with their connection; what a worker does is resumed over another.
        What a follower takes for newer than its state stays."""
        for connection in self._of(node_id):
            identity = connection.peer.identity
            if identity is not None and identity.role is Role.MANAGER:
                try:
                    role = present_role(identity, self._standings)
                except PermissionDenied as refusal:
                    self._end(connection, refusal.message)
                    continue
                if role is not Role.MANAGER:
                    self._end(connection, f"node {node_id} is no manager any more")

    def _judge_node(self, node_id: str) -> None:
        for connection in self._of(node_id):
            self.judge(connection)

    def _of(self, node_id: str) -> tuple[Evictable, ...]:
        return tuple(
            c for c in self._connections() if c.peer.identity is not None and c.peer.identity.node_id == node_id
        )

    def _end(self, connection: Evictable, reason: str) -> None:
        log.info("closing the connection with %s: %s", connection.peer.address, reason)
        connection.abort(reason)

    def _distrust(self, node_id: str, fingerprints: tuple[str, ...]) -> None:
        if fingerprints:
            self._distrusted[node_id] = fingerprints
        else:
            self._distrusted.pop(node_id, None)

    def _tell(self) -> None:
        revoked = tuple(sorted({one for some in self._distrusted.values() for one in some}))
        if revoked != self.revoked:
            self.revoked = revoked
            self._on_revoked()
