"""When a silent node is given up, and how often one may register. Plain data: the time is passed in."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable
from typing import Final

from swarmd.errors import Unavailable

log = logging.getLogger(__name__)

GRACE_PERIODS: Final = 3
"""Missed heartbeats until a node is DOWN: one lost frame must not kill a node."""
REGISTRATIONS_MAX: Final = 3
REGISTRATIONS_WINDOW_S: Final = 8.0
BURST_PAUSE_S: Final = 60.0
"""Two storms of registrations with less than this between them are one burst, which is told of once."""
_QUESTION: Final = "is its identity used twice? Was its state directory copied?"


class Deadlines:
    """One deadline a node. Moving one later, as each heartbeat does, costs a dict write and no heap work."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._queued: dict[str, float] = {}
        """The earliest heap entry of each node."""

    def set(self, node_id: str, at: float) -> None:
        """`node_id` must be heard from before `at`."""
        self._at[node_id] = at
        queued = self._queued.get(node_id)
        if queued is None or at < queued:
            self._push(node_id, at)

    def drop(self, node_id: str) -> None:
        """Nothing is expected of `node_id` any more."""
        self._at.pop(node_id, None)

    @property
    def next_at(self) -> float:
        """When `expired` should be asked again; infinity if nothing is expected."""
        return self._heap[0][0] if self._heap else float("inf")

    def expired(self, now: float) -> list[str]:
        """The nodes whose deadline has passed; they are dropped."""
        expired = []
        while self._heap and self._heap[0][0] <= now:
            entry_at, node_id = heapq.heappop(self._heap)
            if self._queued.get(node_id) != entry_at:
                continue  # an earlier entry took its place
            del self._queued[node_id]
            at = self._at.get(node_id)
            if at is None:
                continue
            if at <= now:
                del self._at[node_id]
                expired.append(node_id)
            else:
                self._push(node_id, at)
        return expired

    def postpone(self, by_s: float) -> None:
        """Everything is due this much later: for that long we did not listen."""
        self._at = {node_id: at + by_s for node_id, at in self._at.items()}
        self._queued = dict(self._at)
        self._heap = [(at, node_id) for node_id, at in self._at.items()]
        heapq.heapify(self._heap)

    def _push(self, node_id: str, at: float) -> None:
        self._queued[node_id] = at
        heapq.heappush(self._heap, (at, node_id))


class RegistrationLimit:
    """At most 3 registrations of one node in 8 s, so that two machines with one identity cannot storm the leader.

    Refused attempts do not count: a storming node is let in again 8 s after its last success (SwarmKit
    `manager/dispatcher/nodes.go`). `on_storm` is told of each burst: the node, where it came from this time, and what
    is to be asked.
    """

    def __init__(self, on_storm: Callable[[str, str, str], None] = lambda node_id, address, question: None) -> None:
        self._on_storm = on_storm
        self._accepted: dict[str, tuple[float, int]] = {}
        self._told: dict[str, float] = {}
        """Node -> the last registration that a warning was about."""

    def admit(self, node_id: str, now: float, address: str = "") -> None:
        """Count a registration. Raises `Unavailable` for one too many, and tells of it once in each burst of these."""
        accepted_at, count = self._accepted.get(node_id, (float("-inf"), 0))
        if now - accepted_at > REGISTRATIONS_WINDOW_S:
            count = 0
        if count >= REGISTRATIONS_MAX:
            self._tell(node_id, accepted_at, address)
            raise Unavailable(
                f"node {node_id} registered more than {REGISTRATIONS_MAX} times in {REGISTRATIONS_WINDOW_S:.0f} s",
                hint="two machines may share one identity: was a state directory copied?",
            )
        self._accepted[node_id] = (now, count + 1)

    def _tell(self, node_id: str, accepted_at: float, address: str) -> None:
        """A burst goes on for as long as somebody who was refused is let in again as soon as that is possible."""
        told_at = self._told.get(node_id, float("-inf"))
        self._told[node_id] = accepted_at
        if accepted_at - told_at > BURST_PAUSE_S:
            log.warning("node %s registers again and again: %s", node_id, _QUESTION)
            self._on_storm(node_id, address, f"duplicate identity: {_QUESTION}")

    def forget(self, node_id: str) -> None:
        """The node is gone."""
        self._accepted.pop(node_id, None)
        self._told.pop(node_id, None)
