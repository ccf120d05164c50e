"""The dispatcher: sessions of nodes, their liveness, what they should run and what they report. One a reign.

All it knows is memory, except what it writes: a node's state and description, and task statuses. The bodies of the
calls take the caller's node id, proved by its certificate, and are the same for the network and for this manager's
own agent. See DESIGN.md.
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from swarmd.errors import Invalid, NotFound, SwarmError, Unavailable
from swarmd.manager.bell import Bell
from swarmd.manager.dispatcher.announced import readable
from swarmd.manager.dispatcher.liveness import GRACE_PERIODS, Deadlines, RegistrationLimit
from swarmd.manager.dispatcher.node_writer import NodeChange, NodeWriter, check_description
from swarmd.manager.dispatcher.reports import REPORTS_PER_WRITE_MAX, Reports, checked
from swarmd.manager.dispatcher.seen_certificate import seen_certificate
from swarmd.manager.dispatcher.session import Session
from swarmd.manager.dispatcher.streams import AssignmentStream, SessionStream, removed
from swarmd.manager.loops.feed import Feed
from swarmd.manager.peer_address import host_of
from swarmd.manager.proposer import Store
from swarmd.model import ClusterSpec, NodeState, TaskState, new_id
from swarmd.state.command import Table
from swarmd.state.watch import Route
from swarmd.wire import dispatch
from swarmd.wire.dispatch import ManagerPeer

log = logging.getLogger(__name__)

PERIOD_JITTER: Final = 0.1
"""Beats are drawn within this share around the period, so that a leader change does not gather them for ever."""
PERIOD_S_MIN: Final = 0.1
"""A period of 0 would mark every node DOWN."""
STALL_S: Final = 1.0
"""If our own timer is later than this, we were not listening, and nobody is blamed for it."""


class Dispatcher:
    """Serves sessions while `run` runs; before and after, every call raises `Unavailable`.

    Args:
        store: the reign's; every write is fenced with its term.
        managers: the present managers and their addresses; say `managers_changed` when they change.
        revoked: certificates that no node should take for a manager's; say `managers_changed` when they change.
        now: epoch seconds, for `applied_at`.
        rng: session ids and jitter.
        on_storm: told (node, address, question) when a node's identity seems to be used twice.
    """

    def __init__(
        self,
        store: Store,
        *,
        managers: Callable[[], tuple[ManagerPeer, ...]],
        revoked: Callable[[], tuple[str, ...]] = tuple,
        now: Callable[[], float],
        rng: random.Random,
        on_storm: Callable[[str, str, str], None] = lambda node_id, address, question: None,
    ) -> None:
        self._state = store.state
        self._managers = managers
        self._revoked = revoked
        self._rng = rng
        self._sessions: dict[str, Session] = {}
        self._deadlines = Deadlines()
        self._timer = Bell()
        self._limit = RegistrationLimit(on_storm)
        self._nodes = NodeWriter(store)
        self._reports = Reports(store, now=now, leader_id=self._leader_id)
        self._is_open = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Live as long as the reign. Started once nodes of the reign before are unconfirmed and sessions are served.

        Every node that is not DOWN keeps its state and gets a fresh grace. However this ends, every session, stream and
        waiting call ends with `Unavailable`.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._nodes.run)
                nursery.start_soon(self._reports.run)
                self._is_open = True
                nursery.start_soon(self._expire)
                nursery.start_soon(self._follow_feature_level)
                await self._begin_reign()
                task_status.started()
        finally:
            self._close()

    def managers_changed(self) -> None:
        """Have every session look at `managers()` and `revoked()` again. Never waits."""
        for session in self._sessions.values():
            session.ring()

    # -- calls ---------------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def session(
        self, node_id: str, address: str, request: dispatch.SessionRequest, *, certificate: bytes = b""
    ) -> AsyncIterator[SessionStream]:
        """Register, or resume while `request.session_id` is this node's; then a message now and at each change.
        `certificate` is the leaf (DER) that the node was seen with.

        Entering returns once the node is READY in the state. A second registration replaces the first. Leaving the
        block, for whatever reason but a goodbye, makes the node DISCONNECTED at once and DOWN after its grace. Raises
        `PermissionDenied` (removed), `NotFound`, `Unavailable` (more than 3 registrations in 8 s; not leading), and
        `Invalid` for a description of more than 64 KiB.
        """
        check_description(request.description)
        session = self._admit(node_id, request.session_id, address)
        stream = SessionStream(
            self._state,
            session,
            managers=self._managers,
            revoked=self._revoked,
            nominal_period_s=self._nominal_period_s,
            draw_period=self._expect,
        )
        session.attach(stream)
        session.description = request.description
        try:
            self._expect(session)
            ready = NodeChange(
                state=NodeState.READY,
                message="",
                confirmed=True,
                addr=host_of(address) or None,
                description=readable(request.description, self._state.cluster()),
                seen=seen_certificate(certificate, self._state.cluster()),
            )
            await self._nodes.put(node_id, ready).wait()
            yield stream
        finally:
            stream.close()
            self._stream_closed(session, stream)

    async def heartbeat(self, node_id: str, request: dispatch.HeartbeatRequest) -> dispatch.HeartbeatReply:
        """The node is alive; the reply says when to beat again. Raises `NotFound` or `Invalid`: register anew."""
        session = self._session(node_id, request.session_id)
        if session.stream is None:
            raise Invalid(f"the session stream of node {node_id} is closed", hint="resume it or register anew")
        self._expect(session)
        return dispatch.HeartbeatReply(period_s=session.period_s)

    @asynccontextmanager
    async def assignments(self, node_id: str, request: dispatch.AssignmentsRequest) -> AsyncIterator[AssignmentStream]:
        """The node's tasks: the complete set, then changes. Raises as `heartbeat` does."""
        stream = AssignmentStream(self._state, self._session(node_id, request.session_id))
        try:
            yield stream
        finally:
            stream.close()

    async def update_status(self, node_id: str, request: dispatch.UpdateStatusRequest) -> dispatch.UpdateStatusReply:
        """Commit what the node observed; tasks of others are left out and listed. Raises as `heartbeat` does, and
        `Unavailable` when the fate is unknown: report again, it is idempotent."""
        session = self._session(node_id, request.session_id)
        if len(request.updates) > REPORTS_PER_WRITE_MAX:
            raise Invalid(f"at most {REPORTS_PER_WRITE_MAX} statuses in a call", field="$.updates")
        updates = checked(request.updates)
        refused = tuple(update.task_id for update in updates if not self._may_report(node_id, update))
        foreign = frozenset(refused)
        async with session.reporting:
            await self._reports.submit(node_id, [u for u in updates if u.task_id not in foreign])
        return dispatch.UpdateStatusReply(refused=refused)

    async def goodbye(self, node_id: str, request: dispatch.GoodbyeRequest) -> None:
        """End the session on purpose. Returns once the state says so: DOWN if the node is leaving, else DISCONNECTED
        ("stopped") and DOWN after its grace. Raises as `heartbeat` does."""
        session = self._session(node_id, request.session_id)
        del self._sessions[node_id]
        session.said_goodbye = True
        session.end(lambda: Invalid(f"node {node_id} said goodbye", hint="register anew"))
        if request.leaving:
            self._deadlines.drop(node_id)
            change = NodeChange(state=NodeState.DOWN, message="left", confirmed=False)
        else:
            self._arm(node_id, session.period_s)
            change = NodeChange(state=NodeState.DISCONNECTED, message="stopped", confirmed=False)
        log.info("node %s said goodbye (%s)", node_id, change.message)
        await self._nodes.put(node_id, change).wait()

    # -- sessions ------------------------------------------------------------------------------------------------
    def _admit(self, node_id: str, session_id: str, address: str) -> Session:
        """The session to serve: the present one if it is resumed, else a new one in its place."""
        self._require_open()
        if self._state.node(node_id) is None:
            if self._state.removed_node(node_id) is not None:
                raise removed(node_id)
            raise NotFound(f"node {node_id} is not in this swarm", hint="join again with a token")
        present = self._sessions.get(node_id)
        if present is not None and present.id == session_id:
            return present
        self._limit.admit(node_id, trio.current_time(), address)
        session = Session(new_id(self._rng), node_id, period_s=self._draw_period())
        self._sessions[node_id] = session
        if present is not None:
            present.end(lambda: Invalid(f"node {node_id} registered again", hint="is its identity used twice?"))
        log.info("node %s registered", node_id)
        return session

    def _session(self, node_id: str, session_id: str) -> Session:
        """The session that a call claims to belong to."""
        self._require_open()
        session = self._sessions.get(node_id)
        if session is None:
            raise NotFound(f"node {node_id} is not registered", hint="register anew")
        if session.id != session_id:
            raise Invalid("this session is not valid (any more)", field="$.session_id", hint="register anew")
        if self._state.node(node_id) is None:
            self._forget(session)
        session.check()
        return session

    def _forget(self, session: Session) -> None:
        """The node was removed: nothing is expected of it and nothing is served."""
        node_id = session.node_id
        self._sessions.pop(node_id, None)
        self._deadlines.drop(node_id)
        self._limit.forget(node_id)
        session.end(lambda: removed(node_id))

    def _stream_closed(self, session: Session, stream: SessionStream) -> None:
        if session.stream is not stream:
            return  # resumed over another connection
        session.stream = None
        if self._sessions.get(session.node_id) is not session:
            return  # replaced, missed, said goodbye, or the reign ended
        if self._state.node(session.node_id) is None:
            self._forget(session)
            return
        log.info("the connection of node %s was lost", session.node_id)
        self._arm(session.node_id, session.period_s)
        self._nodes.put(
            session.node_id,
            NodeChange(state=NodeState.DISCONNECTED, message="connection lost", confirmed=False),
        )

    def _may_report(self, node_id: str, update: dispatch.ReportedStatus) -> bool:
        """Unknown tasks are no offence: they were removed while the report travelled."""
        task = self._state.task(update.task_id)
        is_own = task is None or task.node_id == node_id
        return is_own and TaskState.ASSIGNED <= update.status.state <= TaskState.REJECTED

    # -- liveness ------------------------------------------------------------------------------------------------
    async def _begin_reign(self) -> None:
        receipts = []
        for node in list(self._state.nodes()):
            if node.status.state is not NodeState.DOWN:
                self._arm(node.id, self._draw_period())
                if node.status.confirmed and node.id not in self._sessions:
                    receipts.append(self._nodes.put(node.id, NodeChange(confirmed=False)))
        for receipt in receipts:
            try:
                await receipt.wait()
            except NotFound:
                continue  # removed in this moment

    async def _expire(self) -> None:
        """Give up nodes whose deadline passes, one timer for all of them."""
        while True:
            next_at = self._deadlines.next_at
            with trio.move_on_at(next_at):
                await self._timer.wait()
                continue
            late_s = trio.current_time() - next_at
            if late_s > STALL_S:
                log.warning("this manager stood still for %.1f s: every node gets that much longer", late_s)
                self._deadlines.postpone(late_s)
                continue
            for node_id in self._deadlines.expired(trio.current_time()):
                self._give_up(node_id)

    def _give_up(self, node_id: str) -> None:
        session = self._sessions.pop(node_id, None)
        message = "not heard from since the leader changed"
        if session is not None:
            message = "heartbeat failure" if session.stream is not None else "connection lost"
            session.end(lambda: Unavailable(f"node {node_id} missed its heartbeats", hint="register anew"))
        node = self._state.node(node_id)
        if node is None:
            self._limit.forget(node_id)
            return
        if session is None and node.status.state is NodeState.DISCONNECTED:
            message = node.status.message
        log.warning("node %s is down: %s", node_id, message)
        self._nodes.put(node_id, NodeChange(state=NodeState.DOWN, message=message, confirmed=False))

    def _expect(self, session: Session) -> None:
        """The node was heard from, or learns a new pace: draw its next period and begin its grace."""
        session.period_s = self._draw_period()
        self._arm(session.node_id, session.period_s)

    def _arm(self, node_id: str, period_s: float) -> None:
        at = trio.current_time() + GRACE_PERIODS * period_s
        is_sooner = at < self._deadlines.next_at
        self._deadlines.set(node_id, at)
        if is_sooner:
            self._timer.ring()

    def _nominal_period_s(self) -> float:
        cluster = self._state.cluster()
        spec = cluster.spec if cluster is not None else ClusterSpec()
        return max(PERIOD_S_MIN, spec.dispatcher.heartbeat_period_s)

    def _draw_period(self) -> float:
        return self._nominal_period_s() * self._rng.uniform(1 - PERIOD_JITTER, 1 + PERIOD_JITTER)

    async def _follow_feature_level(self) -> None:
        """Write what nodes said of themselves before every manager could read it."""
        with Feed(self._state, (Route(Table.CLUSTER),)) as feed:
            level = self._feature_level()
            while True:
                await feed.next()
                if level != (level := self._feature_level()):
                    self._announce_again()

    def _announce_again(self) -> None:
        for session in self._sessions.values():
            if session.description is not None and session.stream is not None:
                description = readable(session.description, self._state.cluster())
                self._nodes.put(session.node_id, NodeChange(description=description))

    def _feature_level(self) -> tuple[str, ...]:
        cluster = self._state.cluster()
        return cluster.feature_level if cluster is not None else ()

    # -- the reign -----------------------------------------------------------------------------------------------
    def _leader_id(self) -> str:
        return next((manager.node_id for manager in self._managers() if manager.is_leader), "")

    def _require_open(self) -> None:
        if not self._is_open:
            raise self._not_leading()

    def _not_leading(self) -> SwarmError:
        return Unavailable("this manager does not lead (any more)", hint="ask another manager")

    def _close(self) -> None:
        self._is_open = False
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            session.end(self._not_leading)
        self._nodes.close(self._not_leading())
        self._reports.close(self._not_leading())
