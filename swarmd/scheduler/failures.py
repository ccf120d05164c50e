"""Which nodes a service keeps failing on (reference orchestration 7.8).

Five failures of one (service, spec version) within five minutes put a node last in that service's order. It is never
excluded, a new spec version starts clean, and a successful run clears nothing.
"""

from __future__ import annotations

from typing import Final

FAILURE_WINDOW_S: Final = 300.0
FAILURES_MIN: Final = 5

FailureKey = tuple[str, int]
"""(service id, spec version)."""


class FailureLog:
    """Recent failures, pruned as they are added and swept once a window."""

    def __init__(self) -> None:
        self._times: dict[FailureKey, dict[str, list[float]]] = {}
        self._swept_at = 0.0

    def add(self, key: FailureKey, node_id: str, at: float) -> None:
        """A task of `key` failed on `node_id` at the instant `at`."""
        times = self._times.setdefault(key, {}).setdefault(node_id, [])
        times[:] = [t for t in times if t > at - FAILURE_WINDOW_S]
        times.append(at)

    def failing(self, key: FailureKey, now: float) -> dict[str, int]:
        """Recent failures per node, of the nodes that have too many."""
        by_node = self._times.get(key)
        if not by_node:
            return {}
        counts = {node_id: self._recent(times, now) for node_id, times in by_node.items() if len(times) >= FAILURES_MIN}
        return {node_id: count for node_id, count in counts.items() if count >= FAILURES_MIN}

    def sweep(self, now: float) -> None:
        """Forget what is too old, at most once a window."""
        if now - self._swept_at < FAILURE_WINDOW_S:
            return
        self._swept_at = now
        for key, by_node in list(self._times.items()):
            kept = {node_id: times for node_id, times in by_node.items() if self._recent(times, now)}
            if kept:
                self._times[key] = kept
            else:
                del self._times[key]

    @staticmethod
    def _recent(times: list[float], now: float) -> int:
        return sum(1 for t in times if t > now - FAILURE_WINDOW_S)
