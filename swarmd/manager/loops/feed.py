"""A subscription that a loop can wait for, and that begins anew when it fell behind."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self

from swarmd.errors import Gone
from swarmd.manager.bell import Bell
from swarmd.state.store import State
from swarmd.state.watch import Event, Route, Subscription

FEED_EVENTS_MAX: Final = 100_000
"""Events a loop may have waiting: a service of that many tasks appears within one of its passes, and re-reading the
state costs more than the memory."""


class Feed:
    """Events of some routes from construction on. Used as a context manager, which ends it."""

    def __init__(self, state: State, routes: Iterable[Route], *, events_max: int = FEED_EVENTS_MAX) -> None:
        self._state = state
        self._routes = tuple(routes)
        self._events_max = events_max
        self._bell = Bell()
        self._subscription = self._subscribe()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._subscription.close()

    async def next(self) -> list[Event] | None:
        """Wait for events. None: some were lost, look at everything again. `Cancelled` loses none."""
        await self._bell.wait()
        return self.take()

    def take(self) -> list[Event] | None:
        """What there is now, perhaps nothing. None: some were lost, look at everything again."""
        try:
            return self._subscription.take()
        except Gone:
            self._subscription = self._subscribe()
            return None

    def _subscribe(self) -> Subscription:
        return self._state.subscribe(self._routes, wake=self._bell.ring, events_max=self._events_max)
