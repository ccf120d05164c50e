"""Links that lose, delay, duplicate and reorder, and partitions that cut them one or both ways."""

from __future__ import annotations

import random
from collections.abc import Iterable

from tests.simulation.faults import Faults

LONG_DELAY_MS = 1500


class Network:
    """Decides what becomes of a message; the world delivers."""

    def __init__(self, rng: random.Random, faults: Faults) -> None:
        self._rng = rng
        self._faults = faults
        self._cut: set[tuple[int, int]] = set()
        self.is_healed = False

    def arrivals(self, source: int, target: int) -> list[float]:
        """After how many milliseconds each copy of a message arrives; none if it is lost."""
        rng, faults = self._rng, self._faults
        if self.is_healed:
            return [1.0]
        if (source, target) in self._cut or rng.random() < faults.loss:
            return []
        copies = 2 if rng.random() < faults.duplication else 1
        return [self._delay() for _ in range(copies)]

    def _delay(self) -> float:
        if self._rng.random() < self._faults.slow_link:
            return self._rng.uniform(0, LONG_DELAY_MS)
        return 0.1 + self._rng.expovariate(1 / self._faults.delay_ms)

    def cut(self, members: Iterable[int]) -> None:
        """Draw a new partition: two sides, one direction only, one link, or two sides that one member still sees both
        of."""
        self._cut.clear()
        everybody = sorted(members)
        if len(everybody) < 2:
            return
        side = set(self._rng.sample(everybody, self._rng.randint(1, len(everybody) - 1)))
        kind = self._rng.choice(("sides", "sides", "one way", "bridge", "link"))
        if kind == "link":
            a, b = self._rng.sample(everybody, 2)
            self._cut |= {(a, b), (b, a)}
            return
        bridge = self._rng.choice(everybody) if kind == "bridge" else None
        for a in everybody:
            for b in everybody:
                if a in side and b not in side and bridge not in (a, b):
                    self._cut.add((a, b))
                    if kind != "one way":
                        self._cut.add((b, a))

    def isolate(self, member: int, members: Iterable[int]) -> None:
        """Cut one member off, both ways."""
        self._cut.clear()
        for other in members:
            self._cut |= {(member, other), (other, member)}

    def mend(self) -> None:
        """No cuts."""
        self._cut.clear()

    def heal(self) -> None:
        """No faults at all from now on."""
        self._cut.clear()
        self.is_healed = True
