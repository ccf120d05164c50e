"""Keeps a session with whoever leads: connects, backs off, connects again."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterator
from typing import Final

import trio

from swarmd.agent.link import DispatcherLink, LinkProvider
from swarmd.agent.reporter import Reporter
from swarmd.agent.session import RPC_TIMEOUT_S, Observer, Session
from swarmd.agent.worker import Worker
from swarmd.errors import SwarmError
from swarmd.executor import Executor

log = logging.getLogger(__name__)

BACKOFF_MIN_S: Final = 0.1
BACKOFF_MAX_S: Final = 8.0


def next_backoff_s(backoff_s: float) -> float:
    """0.1, 0.3, 0.7, 1.5, 3.1, 6.3, 8: the longest wait after one more failure (reference 1.5)."""
    return min(BACKOFF_MIN_S + 2 * backoff_s, BACKOFF_MAX_S)


class Connector:
    """One session at a time, on one link but for the moment in which it moves to another. Tasks are not its business:
    they run with or without it."""

    def __init__(
        self,
        links: LinkProvider,
        executor: Executor,
        worker: Worker,
        reporter: Reporter,
        observer: Observer,
        *,
        rng: random.Random,
    ) -> None:
        self._links = links
        self._executor = executor
        self._worker = worker
        self._reporter = reporter
        self._observer = observer
        self._rng = rng
        self._backoff_s = 0.0
        self._session_id = ""
        self._registered: Session | None = None
        self._attempts = trio.CancelScope()
        self._is_stopping = False
        self._is_leaving = False
        self._certificate_changed = trio.Event()
        self._registration = trio.Event()
        """Set at the next registration."""
        self._ended = trio.Event()
        self.state = "connecting: not tried yet"
        """`connected`, `connecting: REASON`, or `stopped`."""

    async def run(self) -> None:
        """Connect until `stop`, which makes it return."""
        try:
            with self._attempts:
                while not self._is_stopping:
                    reason = await self._connect()
                    await self._back_off(reason)
        finally:
            self.state = "stopped"
            self._ended.set()

    async def stop(self, *, leaving: bool) -> None:
        """Say goodbye if there is a session, and connect no more. Returns when done; the caller sets a limit."""
        self._is_stopping, self._is_leaving = True, leaving
        if self._registered is not None:
            self._registered.stop(leaving=leaving)
        else:
            self._attempts.cancel()
        await self._ended.wait()

    def reconnect(self) -> None:
        """Take the session over to a new link, without a gap: the certificate changed. Never waits."""
        self._certificate_changed.set()

    async def _connect(self) -> str:
        """Hold sessions until an error or `stop`; why it ended."""
        reason = "stopping"
        self._certificate_changed = trio.Event()  # what is dialed from here on shows the newest
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._move_when_asked, nursery)
                await nursery.start(self._hold_link, nursery.cancel_scope, None)
        except* (SwarmError, trio.TooSlowError) as errors:
            reason = _reason(errors)
        return reason

    async def _hold_link(
        self, whole: trio.CancelScope, before: Session | None, *, task_status: trio.TaskStatus[None]
    ) -> None:
        """Hold sessions on one link, the first of them taken over from `before`, until another link takes over.

        Started once there is the link. Any other end than being taken over is the end of `whole`.
        """
        with trio.fail_after(RPC_TIMEOUT_S) as connecting:
            async with self._links.connect() as link:
                connecting.deadline = math.inf
                task_status.started()
                moved = await before.move() if before is not None else None
                while not self._is_stopping or moved is not None:
                    session = await self._hold_session(link, moved)
                    if session.is_moving:
                        return
                    moved = None
        whole.cancel()

    async def _hold_session(self, link: DispatcherLink, moved: trio.Event | None) -> Session:
        """One session, from its registration to its end. `moved` is told that it was taken over."""
        session = Session(
            link, self._executor, self._worker, self._reporter, self._observer, session_id=self._session_id
        )

        def on_registered() -> None:
            if moved is not None:
                moved.set()
            self._session_id = session.id
            self._registered = session
            self._backoff_s = 0.0
            self.state = "connected"
            log.info("session %s with the dispatcher", session.id)
            registration, self._registration = self._registration, trio.Event()
            registration.set()
            if self._is_stopping:
                session.stop(leaving=self._is_leaving)

        try:
            await session.run(on_registered)
        finally:
            if self._registered is session:
                self._registered = None
        return session

    async def _move_when_asked(self, nursery: trio.Nursery) -> None:
        """While no new link can be had the session stays where it is, and it is tried again."""
        backoff_s = 0.0
        while True:
            await self._certificate_changed.wait()
            while (before := self._registered) is None or before.is_moving:
                await self._registration.wait()
            self._certificate_changed = trio.Event()
            if await self._has_moved(nursery, before):
                backoff_s = 0.0
            else:
                self._certificate_changed.set()
                backoff_s = next_backoff_s(backoff_s)
                await trio.sleep(self._rng.uniform(0.0, backoff_s))

    async def _has_moved(self, nursery: trio.Nursery, before: Session) -> bool:
        is_connected = True
        try:
            await nursery.start(self._hold_link, nursery.cancel_scope, before)
        except* (SwarmError, trio.TooSlowError) as errors:
            log.info("no connection with the new certificate yet: %s", _reason(errors))
            is_connected = False
        return is_connected

    async def _back_off(self, reason: str) -> None:
        if self._is_stopping:
            return
        self.state = f"connecting: {reason}"
        self._backoff_s = next_backoff_s(self._backoff_s)
        delay_s = self._rng.uniform(0.0, self._backoff_s)
        log.info("no session: %s; next try in %.1f s", reason, delay_s)
        await trio.sleep(delay_s)


def _reason(errors: BaseExceptionGroup[BaseException]) -> str:
    first = next(_leaves(errors))
    return f"no answer within {RPC_TIMEOUT_S:.0f} s" if isinstance(first, trio.TooSlowError) else str(first)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
