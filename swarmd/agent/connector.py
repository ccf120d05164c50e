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
    """One session at a time. Tasks are not its business: they run with or without it."""

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
        self._held = trio.CancelScope()
        """Of the link in use: cancelled when another one takes its place."""
        self._wants_successor = trio.Event()
        self._tried = _set_event()
        """Set unless a new link is being tried beside the one in use."""
        self._reason = ""
        self._attempts = trio.CancelScope()
        self._is_stopping = False
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
        self._is_stopping = True
        if self._registered is not None:
            self._registered.stop(leaving=leaving)
        else:
            self._attempts.cancel()
        await self._ended.wait()

    def renew_link(self) -> None:
        """Go on over a link of its own making: this node has another certificate. Never waits.

        The present link is used until the new one has resumed its session, so nobody takes the node for lost; a new
        one that cannot be had is tried again.
        """
        self._wants_successor.set()

    async def _connect(self) -> str:
        """Hold sessions on one link after the other, without a gap, until an error or `stop`; why it ended."""
        self._reason = "stopping"
        self._wants_successor = trio.Event()
        async with trio.open_nursery() as nursery:
            self._held, self._tried = trio.CancelScope(), _set_event()
            nursery.start_soon(self._hold_link, self._held, nursery.cancel_scope)
            nursery.start_soon(self._succeed, nursery)
        return self._reason

    async def _hold_link(self, scope: trio.CancelScope, all_links: trio.CancelScope) -> str:
        """Hold sessions on a new link; why it ended. If that was the link in use, all of them end."""
        reason = "stopping"
        with scope:
            try:
                with trio.fail_after(RPC_TIMEOUT_S) as connecting:
                    async with self._links.connect() as link:
                        connecting.deadline = math.inf
                        while not self._is_stopping:
                            await self._hold_session(link, scope)
            except* (SwarmError, trio.TooSlowError) as errors:
                reason = _reason(errors)
        if self._held is scope:
            # The dispatcher ends our stream when it begins the successor's, which hears of it only a little later.
            with trio.move_on_after(RPC_TIMEOUT_S):
                await self._tried.wait()
        if self._held is scope:
            self._reason = reason
            all_links.cancel()
        return reason

    async def _succeed(self, nursery: trio.Nursery) -> None:
        """Put another link in the place of the one in use, whenever `renew_link` asks for it."""
        while True:
            await self._wants_successor.wait()
            self._wants_successor = trio.Event()
            wait_s, present = BACKOFF_MIN_S, self._held
            while self._held is present:
                await self._try_successor(present, nursery)
                if self._held is present:
                    await trio.sleep(self._rng.uniform(0.0, wait_s))
                    wait_s = next_backoff_s(wait_s)

    async def _try_successor(self, present: trio.CancelScope, nursery: trio.Nursery) -> None:
        """Returns once the new link is in use, or cannot be had."""
        self._tried = settled = trio.Event()
        scope = trio.CancelScope()

        async def hold() -> None:
            reason = await self._hold_link(scope, nursery.cancel_scope)
            if self._held is present:
                log.info("the link could not be renewed, the present one goes on: %s", reason)
            settled.set()

        nursery.start_soon(hold)
        await settled.wait()

    async def _hold_session(self, link: DispatcherLink, scope: trio.CancelScope) -> None:
        session = Session(
            link, self._executor, self._worker, self._reporter, self._observer, session_id=self._session_id
        )

        def on_registered() -> None:
            self._session_id = session.id
            self._registered = session
            self._backoff_s = 0.0
            self.state = "connected"
            log.info("session %s with the dispatcher", session.id)
            if self._held is not scope:
                predecessor, self._held = self._held, scope
                predecessor.cancel()
                self._tried.set()

        try:
            await session.run(on_registered)
        finally:
            if self._registered is session:
                self._registered = None

    async def _back_off(self, reason: str) -> None:
        if self._is_stopping:
            return
        self.state = f"connecting: {reason}"
        self._backoff_s = next_backoff_s(self._backoff_s)
        delay_s = self._rng.uniform(0.0, self._backoff_s)
        log.info("no session: %s; next try in %.1f s", reason, delay_s)
        await trio.sleep(delay_s)


def _set_event() -> trio.Event:
    event = trio.Event()
    event.set()
    return event


def _reason(errors: BaseExceptionGroup[BaseException]) -> str:
    first = next(_leaves(errors))
    return f"no answer within {RPC_TIMEOUT_S:.0f} s" if isinstance(first, trio.TooSlowError) else str(first)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
