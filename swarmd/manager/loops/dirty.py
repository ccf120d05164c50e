"""Which keys to look at: now, later, or again after the look that is under way. Synchronous; the clock is passed in."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import Final

PARKED_RETRY_S: Final = 1.0
"""A parked key that is marked is looked at this soon, not at once: its events must not defeat its back-off."""


class DirtyKeys:
    """A queue of keys without duplicates. Instants are of one monotonic clock of the caller's.

    A key is in one of three places: ready, taken (by whoever looks at it), or nowhere; it may have an alarm besides.
    """

    def __init__(self) -> None:
        self._ready: OrderedDict[str, None] = OrderedDict()
        self._taken: dict[str, bool] = {}
        """Taken -> whether it was marked since."""
        self._alarms: dict[str, float] = {}
        self._parked: set[str] = set()
        self._heap: list[tuple[float, str]] = []

    def mark(self, key: str, now: float) -> None:
        """Something about `key` changed."""
        if key in self._taken:
            self._taken[key] = True
        elif key in self._parked:
            self.mark_by(key, now + PARKED_RETRY_S)
        else:
            self._ready[key] = None

    def mark_by(self, key: str, at: float) -> None:
        """Look at `key` at the instant `at` at the latest. A key that is being looked at is marked."""
        if key in self._taken:
            self._taken[key] = True
        elif key not in self._ready and at < self._alarms.get(key, float("inf")):
            self._set_alarm(key, at)

    def take(self) -> str | None:
        """The key that has been ready for longest. The caller says `done` or `park` of it."""
        if not self._ready:
            return None
        key, _ = self._ready.popitem(last=False)
        self._taken[key] = False
        self._alarms.pop(key, None)
        return key

    def done(self, key: str, wake_at: float | None) -> None:
        """The look at `key` is over; the next is at `wake_at`, or at once if the key was marked meanwhile."""
        if self._taken.pop(key):
            self._ready[key] = None
        elif wake_at is not None:
            self._set_alarm(key, wake_at)

    def park(self, key: str, retry_at: float) -> None:
        """The look at `key` failed: leave it alone until `retry_at`, or a little while if it was or is marked."""
        del self._taken[key]
        self._parked.add(key)
        self._set_alarm(key, retry_at)

    def ring_alarms(self, now: float) -> None:
        """Alarms that are due make their keys ready."""
        while self._heap and self._heap[0][0] <= now:
            at, key = heapq.heappop(self._heap)
            if self._alarms.get(key) == at:
                del self._alarms[key]
                self._parked.discard(key)
                self._ready[key] = None

    @property
    def next_alarm(self) -> float:
        """When `ring_alarms` is worth calling; infinity if never."""
        while self._heap and self._alarms.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else float("inf")

    def _set_alarm(self, key: str, at: float) -> None:
        self._alarms[key] = at
        heapq.heappush(self._heap, (at, key))
