"""How often anybody may try to join, and how many may: wrong tokens by address, joins by second. Pure: the time is
passed in."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from typing import Final

from swarmd.errors import ResourceExhausted

TOKEN_FAILURES_MAX: Final = 5
TOKEN_FAILURES_WINDOW_S: Final = 60.0
TOKEN_ADDRESSES_MAX: Final = 10_000
"""Addresses whose failures are remembered; beyond it the oldest is forgotten."""
JOINS_PER_S: Final = 100.0
"""About half of a core of the leader, at 4 ms a join (`make bench ONLY=joins`)."""
JOINS_BURST: Final = 500
"""A rack that is switched on joins at once."""
RETRY_AFTER_S_MAX: Final = 60.0
NODES_MAX: Final = 16_384
"""As many as a manager has places for connections."""


class TokenFailures:
    """Counts wrong tokens by address and refuses the sixth within a minute."""

    def __init__(self) -> None:
        self._at: OrderedDict[str, deque[float]] = OrderedDict()

    def check(self, host: str, now: float) -> None:
        """Raises `ResourceExhausted` while `host` has used up its tries."""
        times = self._at.get(host, deque())
        while times and now - times[0] >= TOKEN_FAILURES_WINDOW_S:
            times.popleft()
        if len(times) >= TOKEN_FAILURES_MAX:
            wait_s = TOKEN_FAILURES_WINDOW_S - (now - times[0])
            raise ResourceExhausted(
                f"too many wrong join tokens from {host}", hint=f"try again in {wait_s:.0f} s with the right one"
            )
        if not times:
            self._at.pop(host, None)

    def count(self, host: str, now: float) -> None:
        """`host` showed a wrong token."""
        self._at.setdefault(host, deque()).append(now)
        self._at.move_to_end(host)
        if len(self._at) > TOKEN_ADDRESSES_MAX:
            self._at.popitem(last=False)


class JoinRate:
    """A token bucket over the joins of all nodes: whoever holds a join token can make records, and no more than these.

    Who is refused is told when to come again, each a little later than the one before, so that a crowd comes back at
    the rate at which it is let in (the virtual schedule of ITU-T I.371, GCRA).

    Args:
        per_s: joins a second in the long run; infinity: no limit.
        burst: joins at once after a quiet time.
    """

    def __init__(self, per_s: float = JOINS_PER_S, burst: int = JOINS_BURST) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._left = float(burst)
        self._at = -math.inf
        self._promised_at = -math.inf
        """When the last of those who were refused may come again."""

    def take(self, now: float) -> None:
        """Count one join. Raises `ResourceExhausted` with `retry_after_s` (at most 60 s) for one too many."""
        if math.isinf(self._per_s):
            return
        if math.isfinite(self._at):
            self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left >= 1.0:
            self._left -= 1.0
            return
        step_s = 1.0 / self._per_s
        self._promised_at = min(max(self._promised_at, now) + step_s, now + RETRY_AFTER_S_MAX)
        wait_s = self._promised_at - now
        raise ResourceExhausted(
            f"more than {self._per_s:g} nodes a second ask to join this swarm",
            hint=f"try again in {wait_s:.1f} s; a daemon that joins does so by itself",
            retry_after_s=wait_s,
        )


def check_nodes(count: int) -> None:
    """Raise `ResourceExhausted` if a swarm of `count` nodes takes no more."""
    if count >= NODES_MAX:
        raise ResourceExhausted(
            f"this swarm has {count:,} nodes, and {NODES_MAX:,} are the most it takes",
            hint="remove those that are gone (swarmctl node rm); if nobody knows them, rotate the join tokens too",
        )
