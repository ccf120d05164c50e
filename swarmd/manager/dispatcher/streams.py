"""The two streams of a session as asynchronous iterators: what the node is, and what it should run.

Each holds one routed subscription and one bell. A message is built when the reader asks for it, from the state as it is
then, so a slow reader costs no queue and never sees the past.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Self

import trio

from swarmd.errors import Conflict, PermissionDenied, SwarmError
from swarmd.manager.bell import Bell
from swarmd.manager.dispatcher.assignment_set import TASKS_PER_MESSAGE_MAX, AssignmentSet
from swarmd.manager.dispatcher.session import Session
from swarmd.model import IssuanceState, Node, NodeSpec, Role
from swarmd.state.command import Table
from swarmd.state.store import State
from swarmd.state.watch import Event, Route
from swarmd.wire.dispatch import AssignmentsMessage, ManagerPeer, SessionMessage

BATCH_QUIET_S: Final = 0.1
"""A change that follows another closely waits until nothing changed for this long ..."""
BATCH_S_MAX: Final = 0.25
"""... but no longer than this."""
EVENTS_QUEUED_MAX: Final = 10_000

_Shown = tuple[NodeSpec, Role, IssuanceState, tuple[ManagerPeer, ...], tuple[str, ...], bytes, float]


class _Watch:
    """A subscription that starts over when it fell behind."""

    def __init__(self, state: State, routes: tuple[Route, ...], bell: Bell) -> None:
        self._state = state
        self._routes = routes
        self._bell = bell
        self.start()

    def start(self) -> None:
        self._subscription = self._state.subscribe(self._routes, wake=self._bell.ring, events_max=EVENTS_QUEUED_MAX)

    def take(self) -> list[Event] | None:
        """The events since the last call; None if some were lost: it began anew, and the caller reads again."""
        if self._subscription.is_gone:
            self._subscription.close()
            self.start()
            return None
        return self._subscription.take()

    def close(self) -> None:
        self._subscription.close()


class SessionStream:
    """What a node is told of itself, the managers and the root: now, and at each change that concerns it."""

    def __init__(
        self,
        state: State,
        session: Session,
        *,
        managers: Callable[[], tuple[ManagerPeer, ...]],
        revoked: Callable[[], tuple[str, ...]],
        nominal_period_s: Callable[[], float],
        draw_period: Callable[[Session], None],
    ) -> None:
        """`draw_period` gives the session a new period and the grace that goes with it."""
        self._state = state
        self._session = session
        self._managers = managers
        self._revoked = revoked
        self._nominal_period_s = nominal_period_s
        self._draw_period = draw_period
        self._period_told_s = nominal_period_s()
        self._bell = Bell()
        self._shown: _Shown | None = None
        self._watch = _Watch(state, (Route(Table.NODE, "id", session.node_id), Route(Table.CLUSTER)), self._bell)
        session.listen(self._bell)

    def close(self) -> None:
        """Stop watching. Idempotent."""
        self._watch.close()
        self._session.unlisten(self._bell)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage:
        """Raises why the session is over; just ends after a goodbye."""
        while True:
            if self._session.said_goodbye:
                raise StopAsyncIteration
            self._session.check()
            if self._session.stream is not self:
                raise Conflict(f"the session of node {self._session.node_id} goes on over another connection")
            self._watch.take()  # it only says where to look
            message = self._message_if_changed()
            if message is not None:
                return message
            await self._bell.wait()

    def _message_if_changed(self) -> SessionMessage | None:
        session = self._session
        node = self._state.node(session.node_id)
        if node is None:
            session.end(lambda: removed(session.node_id))
            session.check()
            raise AssertionError("the session has ended")
        cluster = self._state.cluster()
        root = cluster.root_ca.certificate if cluster is not None else b""
        managers, revoked = self._managers(), self._revoked()
        nominal_s = self._nominal_period_s()
        shown = _shown(node, managers, revoked, root, nominal_s)
        if shown == self._shown:
            return None
        self._shown = shown
        if nominal_s != self._period_told_s:
            # The node will beat at the new pace from this message on, so its grace must be the new one too.
            self._period_told_s = nominal_s
            self._draw_period(session)
        return SessionMessage(
            session_id=session.id,
            node=node,
            managers=managers,
            revoked=revoked,
            root_ca=root,
            heartbeat_period_s=session.period_s,
        )


def _shown(
    node: Node, managers: tuple[ManagerPeer, ...], revoked: tuple[str, ...], root: bytes, period_s: float
) -> _Shown:
    """What makes a new message worth sending: not the node's status and description, which are its own echo."""
    return (node.spec, node.role, node.certificate.state, managers, revoked, root, period_s)


class AssignmentStream:
    """What a node should run: all of it first, then each change.

    A change after a quiet time is told at once; further ones are gathered until nothing changed for 100 ms, at most
    for 250 ms.
    """

    def __init__(self, state: State, session: Session) -> None:
        self._state = state
        self._session = session
        self._bell = Bell()
        self._set = AssignmentSet(session.node_id)
        self._watch = _Watch(state, (Route(Table.TASK, "node_id", session.node_id),), self._bell)
        self._ready: deque[AssignmentsMessage] = deque()
        self._told_at = trio.current_time()
        self._first_change_at = 0.0
        self._last_change_at = 0.0
        session.listen(self._bell)
        # The subscription above and the read below are one synchronous step: no change falls between them.
        self._begin()

    def close(self) -> None:
        """Stop watching. Idempotent."""
        self._watch.close()
        self._session.unlisten(self._bell)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AssignmentsMessage:
        """Raises why the session is over; just ends after a goodbye."""
        while True:
            if self._session.said_goodbye:
                raise StopAsyncIteration
            self._session.check()
            self._look()
            if self._ready:
                return self._ready.popleft()
            wait_s = self._due_at() - trio.current_time()
            if wait_s <= 0:
                self._ready.extend(self._set.changes())
                self._told_at = trio.current_time()
            else:
                with trio.move_on_after(wait_s):
                    await self._bell.wait()

    def _begin(self) -> None:
        self._ready.clear()
        self._ready.extend(self._set.complete(self._state.tasks_of_node(self._session.node_id)))
        self._told_at = trio.current_time()

    def _look(self) -> None:
        """Take what happened into the set."""
        events = self._watch.take()
        if events is None:
            self._begin()
            return
        before = self._set.untold
        for event in events:
            self._set.observe(event)
        if events and self._set.untold:
            self._last_change_at = trio.current_time()
            if not before:
                self._first_change_at = self._last_change_at

    def _due_at(self) -> float:
        if not self._set.untold:
            return float("inf")
        if self._set.untold >= TASKS_PER_MESSAGE_MAX or self._first_change_at - self._told_at >= BATCH_QUIET_S:
            return self._first_change_at
        return min(self._last_change_at + BATCH_QUIET_S, self._first_change_at + BATCH_S_MAX)


def removed(node_id: str) -> SwarmError:
    """What a removed node is told on every door."""
    return PermissionDenied(
        f"node {node_id} was removed from this swarm", hint="join again with a token and an empty state directory"
    )
