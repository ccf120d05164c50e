"""One session with the dispatcher: registration, heartbeats, assignments, reports. Any of them failing ends it.

While it lasts, the link's calls are made from here; before and after, tasks run without it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable
from typing import Final

import trio
from msgspec.structs import replace

from swarmd.agent.assignments import AssignmentsGap, AssignmentsReader, Change, CompleteSet
from swarmd.agent.link import DispatcherLink, LinkProvider
from swarmd.agent.reporter import Reporter
from swarmd.agent.worker import Worker
from swarmd.errors import Unavailable
from swarmd.executor import Executor
from swarmd.model import Meta, Node, NodeDescription, NodeStatus
from swarmd.storage.errors import StorageDamaged, StorageFailed
from swarmd.wire.dispatch import (
    AssignmentsRequest,
    GoodbyeRequest,
    HeartbeatRequest,
    SessionMessage,
    SessionRequest,
)

log = logging.getLogger(__name__)

RPC_TIMEOUT_S: Final = 5.0
"""For connecting together with the first session message, and for each heartbeat."""
DESCRIBE_PERIOD_S: Final = 20.0
GOODBYE_TIMEOUT_S: Final = 1.0
MOVE_S_MAX: Final = 10.0
"""How long a session's old stream is kept open for the link that takes the session over."""
GAPS_MAX: Final = 10
"""In one session; then it is worth another dispatcher's opinion."""


class Observer:
    """Tells the node what the dispatcher says of it, once per change."""

    def __init__(
        self,
        links: LinkProvider,
        on_node: Callable[[Node], None],
        on_root_ca: Callable[[bytes], None],
        on_revoked: Callable[[tuple[str, ...]], None] = lambda _fingerprints: None,
    ) -> None:
        self._links = links
        self._on_node = on_node
        self._on_root_ca = on_root_ca
        self._on_revoked = on_revoked
        self._node: Node | None = None
        self._root_ca = b""

    def observe(self, message: SessionMessage) -> None:
        """Managers and what is revoked are passed on each time; the node (but for status and meta) and the root only
        when they change."""
        self._on_revoked(message.revoked)
        self._links.learned_managers(message.managers)
        if message.root_ca and message.root_ca != self._root_ca:
            self._root_ca = message.root_ca
            self._on_root_ca(message.root_ca)
        node = replace(message.node, meta=Meta(), status=NodeStatus())
        if node != self._node:
            self._node = node
            self._on_node(message.node)


class Session:
    """One registration on one link. `run` once; the next session is another object."""

    def __init__(
        self,
        link: DispatcherLink,
        executor: Executor,
        worker: Worker,
        reporter: Reporter,
        observer: Observer,
        *,
        session_id: str,
    ) -> None:
        self._link = link
        self._executor = executor
        self._worker = worker
        self._reporter = reporter
        self._observer = observer
        self._loops = trio.CancelScope()
        self._goodbye: GoodbyeRequest | None = None
        self._loops_ended = trio.Event()
        self._moved: trio.Event | None = None
        self.id = session_id
        """The session to resume, then the one the dispatcher gave."""

    def stop(self, *, leaving: bool) -> None:
        """End the loops; `run` then flushes the statuses, says goodbye and returns."""
        self._goodbye = GoodbyeRequest(session_id=self.id, leaving=leaving)
        self._loops.cancel()

    @property
    def is_moving(self) -> bool:
        """Whether another link takes the session over, or has done so."""
        return self._moved is not None

    async def move(self) -> trio.Event:
        """Another link is about to take the session over. Returns once the loops have ended.

        The stream stays open until the returned event is set, at most 10 s: the dispatcher never sees this node without
        a connection.
        """
        self._moved = trio.Event()
        self._loops.cancel()
        await self._loops_ended.wait()
        return self._moved

    async def run(self, on_registered: Callable[[], None]) -> None:
        """Register, then serve. Returns after `stop`, after a move, and when the description changed, which wants a new
        session.

        Raises the dispatcher's error, `Unavailable` or `trio.TooSlowError`, bare or in a group.
        """
        description = await self._executor.describe()
        request = SessionRequest(description=description, session_id=self.id)
        with trio.fail_after(RPC_TIMEOUT_S) as registration:
            async with self._link.session(request) as messages:
                first = await _next(messages)
                registration.deadline = math.inf
                self.id = first.session_id
                self._observer.observe(first)
                self._reporter.resend(self._worker.statuses)
                on_registered()
                await self._serve(messages, description)
                self._loops_ended.set()
                await self._part()

    async def _serve(self, messages: AsyncIterator[SessionMessage], description: NodeDescription) -> None:
        with self._loops:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow_session, messages)
                nursery.start_soon(self._beat)
                nursery.start_soon(self._follow_assignments)
                nursery.start_soon(self._reporter.send, self._link, self.id)
                await self._until_described_otherwise(description)
                nursery.cancel_scope.cancel()

    async def _part(self) -> None:
        """Say goodbye while the session is open, so that its end surprises nobody; a session that moves has no end."""
        if self._moved is not None:
            with trio.move_on_after(MOVE_S_MAX):
                await self._moved.wait()
            return
        if self._goodbye is None:
            return
        await self._reporter.flush(self._link, self.id)
        with trio.move_on_after(GOODBYE_TIMEOUT_S):
            await self._link.goodbye(self._goodbye)

    async def _follow_session(self, messages: AsyncIterator[SessionMessage]) -> None:
        while True:
            message = await _next(messages)
            if message.session_id != self.id:
                raise Unavailable("the dispatcher speaks of another session")
            self._observer.observe(message)

    async def _beat(self) -> None:
        """Beat at once, then as often as the dispatcher says."""
        request = HeartbeatRequest(session_id=self.id)
        while True:
            with trio.fail_after(RPC_TIMEOUT_S):
                reply = await self._link.heartbeat(request)
            await trio.sleep(reply.period_s)

    async def _follow_assignments(self) -> None:
        """Apply the stream; a gap opens it again, from a complete set."""
        for _ in range(GAPS_MAX):
            try:
                await self._apply_assignments()
            except AssignmentsGap as gap:
                log.warning("reopening the assignments: %s", gap)
        raise Unavailable("the dispatcher's assignments have too many gaps")

    async def _apply_assignments(self) -> None:
        reader = AssignmentsReader()
        async with self._link.assignments(AssignmentsRequest(session_id=self.id)) as messages:
            async for message in messages:
                assignments = reader.read(message)
                if assignments is not None:
                    await self._store_and_apply(assignments)
        raise Unavailable("the dispatcher closed the assignments")

    async def _store_and_apply(self, assignments: CompleteSet | Change) -> None:
        try:
            await self._worker.apply(assignments)
        except (StorageFailed, StorageDamaged) as error:
            # Without the store a task could be lost to the next daemon; the manager keeps it until this works again.
            raise Unavailable(f"the task store failed: {error}") from error

    async def _until_described_otherwise(self, description: NodeDescription) -> None:
        while True:
            with trio.move_on_after(DESCRIBE_PERIOD_S):
                await self._executor.description_changed()
            if await self._executor.describe() != description:
                return


async def _next(messages: AsyncIterator[SessionMessage]) -> SessionMessage:
    try:
        return await anext(messages)
    except StopAsyncIteration:
        raise Unavailable("the dispatcher closed the session") from None
