"""What happens in one life, drawn from its seed: most faults are off in most lives, so that each is met alone too."""

from __future__ import annotations

import random

import msgspec


class Weather(msgspec.Struct, frozen=True, kw_only=True):
    """Rates are per virtual second, probabilities per task; 0 means never."""

    nodes: int
    services: int
    busy_s: float
    """How long users and faults act before the calm in which everything must converge."""
    latency_s: float
    """From proposal to commit."""
    skew_s: float
    depositions: float
    crashes: float
    """Of whole nodes: their tasks are gone."""
    partitions: float
    """Of nodes from the managers."""
    departures: float
    """Nodes that are removed or join."""
    operators: float
    """Labels, availability and capacity changed."""
    users: float
    """Services created, changed, scaled, removed."""
    failures: float
    """Tasks that end by themselves though their program is sound."""
    rejections: float
    slow: float
    """Tasks that take long to prepare or to stop."""


def draw(rng: random.Random) -> Weather:
    """The weather of one life."""

    def perhaps(probability: float, low: float, high: float) -> float:
        return rng.uniform(low, high) if rng.random() < probability else 0.0

    return Weather(
        nodes=rng.randint(1, 6),
        services=rng.randint(1, 4),
        busy_s=rng.choice((30.0, 120.0, 400.0)),
        latency_s=rng.choice((0.002, 0.02, 0.3)),
        skew_s=perhaps(0.3, 0.1, 2.0),
        depositions=perhaps(0.6, 0.005, 0.1),
        crashes=perhaps(0.5, 0.005, 0.05),
        partitions=perhaps(0.5, 0.005, 0.05),
        departures=perhaps(0.3, 0.002, 0.02),
        operators=perhaps(0.6, 0.01, 0.2),
        users=perhaps(0.9, 0.02, 0.3),
        failures=perhaps(0.5, 0.05, 0.5),
        rejections=perhaps(0.2, 0.05, 0.3),
        slow=perhaps(0.4, 0.1, 0.6),
    )
