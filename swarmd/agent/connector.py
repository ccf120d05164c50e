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

    async def _connect(self) -> str:
        """Hold sessions on one link until an error or `stop`; why it ended."""
        reason = "stopping"
        try:
            with trio.fail_after(RPC_TIMEOUT_S) as connecting:
                async with self._links.connect() as link:
                    connecting.deadline = math.inf
                    while not self._is_stopping:
                        await self._hold_session(link)
        except* (SwarmError, trio.TooSlowError) as errors:
            reason = _reason(errors)
        return reason

    async def _hold_session(self, link: DispatcherLink) -> None:
        session = Session(
            link, self._executor, self._worker, self._reporter, self._observer, session_id=self._session_id
        )

        def on_registered() -> None:
            self._session_id = session.id
            self._registered = session
            self._backoff_s = 0.0
            self.state = "connected"
            log.info("session %s with the dispatcher", session.id)

        try:
            await session.run(on_registered)
        finally:
            self._registered = None

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
