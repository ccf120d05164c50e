"""The least weather in which a life still fails in the same way: fewer faults to read about."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from tests.simulation.faults import Faults
from tests.simulation.world import NO_WEATHER, SAFETY_MS, World, simulate

LIVES_MAX: Final = 120
"""Lives spent on one failure."""
SAFETY_MS_MIN: Final = 200
CALM: Final[Mapping[str, float]] = {
    "delay_ms": 1.0,
    "disk_ms": 0.5,
    "election_ticks": 5,
    "entries_max": 1024,
    "window": 64,
    "batch": 1,
}
"""What is no fault when it is zero, where the weather is good. Everything else may be switched off."""
KEPT: Final = frozenset({"voters", "keep_entries"})


@dataclass(frozen=True)
class Reduced:
    """A life that fails: `World(seed, weather=..., safety_ms=...)`."""

    seed: int
    weather: dict[str, float]
    safety_ms: int
    failure: str

    def __str__(self) -> str:
        return (
            f"replay: make simulate SEED={self.seed} SAFETY_MS={self.safety_ms} "
            f"WEATHER='{' '.join(f'{name}={value:g}' for name, value in self.weather.items())}'\n{self.failure}"
        )


def reduce(
    seed: int,
    *,
    weather: Mapping[str, float] = NO_WEATHER,
    safety_ms: int = SAFETY_MS,
    lives_max: int = LIVES_MAX,
    **factories: Any,
) -> Reduced | None:
    """Switch off what the failure of `seed` does not need, and shorten its life. None if it does not fail."""
    lives = [lives_max]

    def failure_of(weather: Mapping[str, float], safety_ms: int) -> str | None:
        if not lives[0]:
            return None
        lives[0] -= 1
        try:
            simulate(seed, weather=weather, safety_ms=safety_ms, **factories)
        except AssertionError as error:
            return str(error)
        return None

    failure = failure_of(weather, safety_ms)
    if failure is None:
        return None
    found = Reduced(seed, dict(weather), safety_ms, failure)
    for calmer, shorter in _attempts(seed, found):
        less, shortest = {**found.weather, **calmer}, shorter or found.safety_ms
        failure = failure_of(less, shortest)
        if failure is not None and kind_of(failure) == kind_of(found.failure):
            found = Reduced(seed, less, shortest, failure)
    return found


def _attempts(seed: int, found: Reduced) -> list[tuple[dict[str, float], int]]:
    """What to try, the most telling first: a shorter life, then each fault off."""
    drawn: Faults = World(seed, weather=found.weather).faults
    shorter = [({}, found.safety_ms * part // 8) for part in (7, 6, 5, 4, 3, 2, 1)]
    off = [
        ({field.name: CALM.get(field.name, 0)}, 0)
        for field in fields(drawn)
        if field.name not in KEPT and getattr(drawn, field.name) != CALM.get(field.name, 0)
    ]
    return [(weather, ms) for weather, ms in [*off, *shorter] if not ms or ms >= SAFETY_MS_MIN]


def kind_of(failure: str) -> str:
    """What went wrong, without which member, term and index."""
    return re.sub(r"\d+", "N", failure.splitlines()[0])[:40]
