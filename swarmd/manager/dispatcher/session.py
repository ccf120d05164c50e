"""One registration of one node, in the memory of the leader alone."""

from __future__ import annotations

from collections.abc import Callable

import trio

from swarmd.errors import SwarmError
from swarmd.manager.bell import Bell
from swarmd.model import NodeDescription


class Session:
    """Lives from a registration until it is replaced, missed, left or the reign ends; survives a lost connection for
    the node's grace, so that it can be resumed."""

    def __init__(self, id: str, node_id: str, *, period_s: float) -> None:
        self.id = id
        self.node_id = node_id
        self.period_s = period_s
        """The heartbeat period last drawn."""
        self.description: NodeDescription | None = None
        """What the node last said of itself."""
        self.stream: object | None = None
        """The open session stream; None while the connection is lost."""
        self.reporting = trio.Lock()
        """One batch of statuses at a time bounds the queue of reports."""
        self.said_goodbye = False
        """The node ended it: its streams just end."""
        self._end: Callable[[], SwarmError] | None = None
        self._bells: set[Bell] = set()

    def listen(self, bell: Bell) -> None:
        """Ring `bell` when something about the session changes."""
        self._bells.add(bell)

    def unlisten(self, bell: Bell) -> None:
        """Idempotent."""
        self._bells.discard(bell)

    def ring(self) -> None:
        """Have every stream of the session look again."""
        for bell in self._bells:
            bell.ring()

    def attach(self, stream: object) -> None:
        """`stream` is the session's stream from now on; an earlier one notices and ends."""
        self.stream = stream
        self.ring()

    def end(self, error: Callable[[], SwarmError]) -> None:
        """The session is over; its streams and later calls raise `error()`. The first reason stays."""
        if self._end is None:
            self._end = error
            self.ring()

    def check(self) -> None:
        """Raise why the session is over, if it is."""
        if self._end is not None:
            raise self._end()
