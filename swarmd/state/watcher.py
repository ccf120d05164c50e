"""A place in the sequence of transactions: every later event that fits is handed out, once, in order.

A short queue of routed events while the watcher keeps up; the shared history when it resumes or fell behind.
Subscribing and reaching the end of the history are one synchronous step, so nothing falls between them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Final

import msgspec

from swarmd.errors import Gone
from swarmd.state.history import Done, History
from swarmd.state.selection import Selected, Selection
from swarmd.state.watch import Event, Router, Subscription

QUEUE_EVENTS_MAX: Final = 1_000
"""Events that wait for one watcher. One that has more coming reads the history instead, which all of them share."""
SCAN_EVENTS: Final = 512
"""Events of the history that are looked at in one step (up to 1 ms)."""


class Transaction(msgspec.Struct, frozen=True):
    """What fits of one entry, in the order of its changes; never nothing. `at` is the proposer's clock."""

    version: int
    at: float
    events: tuple[Selected, ...]


class Watcher:
    """Made by `State.watch`; ended by `close`.

    Args:
        index: what the state is at now.
        position: entries after this one are handed out.
        wake: called when there may be something to `take`; must not raise.
    """

    def __init__(
        self,
        router: Router,
        history: History,
        selection: Selection,
        *,
        index: Callable[[], int],
        position: int,
        wake: Callable[[], None],
        queue_max: int = QUEUE_EVENTS_MAX,
    ) -> None:
        self._router = router
        self._history = history
        self._selection = selection
        self._index = index
        self._wake = wake
        self._queue_max = queue_max
        self._live: Subscription | None = None
        self.position = position
        """Everything that fits of entries up to this one was taken."""
        self._check_reach()

    @property
    def is_current(self) -> bool:
        """Whether the next `take` waits for something to happen, rather than for being called."""
        return self._live is not None and not self._live.is_gone

    def take(self) -> list[Transaction]:
        """What comes next, perhaps nothing (yet: see `is_current`). Raises `Gone` if some of it is forgotten."""
        if self._live is not None:
            if not self._live.is_gone:
                events = self._live.take()
                self.position = self._index()
                return self._fitting(events)
            self._stop_listening()
        return self._catch_up()

    def close(self) -> None:
        """End it. Idempotent."""
        self._stop_listening()

    # -- inside --------------------------------------------------------------------------------------------------
    def _stop_listening(self) -> None:
        if self._live is not None:
            self._live.close()
            self._live = None

    def _catch_up(self) -> list[Transaction]:
        """The next stretch of the history; at its end, listen."""
        self._check_reach()
        found: list[Transaction] = []
        looked_at = 0
        for done in self._history.after(self.position):
            if looked_at >= SCAN_EVENTS:
                return found
            looked_at += len(done[2])
            self.position = done[0]
            if (transaction := self._of(done)) is not None:
                found.append(transaction)
        self.position = self._index()
        self._live = self._router.subscribe(self._selection.routes, self._wake, self._queue_max)
        return found

    def _check_reach(self) -> None:
        start = self._history.start
        if self.position < start:
            raise Gone(
                f"what happened after version {self.position} is not known any more: this manager remembers from "
                f"version {start} on",
                hint="read the objects anew, and watch from then on",
            )

    def _of(self, done: Done) -> Transaction | None:
        index, at, changes = done
        events: list[Selected] = []
        for rows, old, new in changes:
            verdict = self._selection.verdict(rows.table, old, new)
            if verdict is not None:
                events.append(Selected(Event(rows.table, old, new, index, at), *verdict))
        return Transaction(index, at, tuple(events)) if events else None

    def _fitting(self, events: list[Event]) -> list[Transaction]:
        found = []
        for index, group in groupby(events, key=lambda event: event.index):
            judged = [self._selection.judge(event) for event in group]
            if told := tuple([selected for selected in judged if selected is not None]):
                found.append(Transaction(index, told[0].event.at, told))
        return found
