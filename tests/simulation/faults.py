"""The weather of one life, drawn from its seed: each has its own mixture, with most faults off (swarm testing)."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields

from swarmd.raft import Settings


@dataclass(frozen=True)
class Faults:
    """Probabilities per event, and mean intervals in milliseconds (0: never)."""

    voters: int
    loss: float
    duplication: float
    delay_ms: float
    slow_link: float
    disk_ms: float
    disk_stall: float
    tick_skew: float
    election_ticks: int
    crash_every_ms: int
    pause_every_ms: int
    power_cut_every_ms: int
    disk_loss_every_ms: int
    cut_every_ms: int
    change_every_ms: int
    transfer_every_ms: int
    aim_vote: float
    aim_persist: float
    aim_change: float
    aim_snapshot: float
    aim_elected: float
    aim_commit: float
    aim_learner: float
    snapshot_every: int
    keep_entries: int
    entries_max: int
    window: int
    batch: int
    disk_refusal_every_ms: int = 0

    @classmethod
    def draw(cls, rng: random.Random) -> Faults:
        """Throw the dice for one life."""

        def sometimes(chance: float, low: float, high: float) -> float:
            return rng.uniform(low, high) if rng.random() < chance else 0.0

        # Dice of their own: the lives of earlier seeds stay what they were, where it is off.
        aside = random.Random()
        aside.setstate(rng.getstate())
        refusal_ms = int(aside.uniform(300, 2000)) if aside.random() < 0.3 else 0
        return cls(
            voters=rng.choice((1, 3, 3, 3, 5, 5)),
            loss=sometimes(0.4, 0.01, 0.2),
            duplication=sometimes(0.4, 0.01, 0.2),
            delay_ms=rng.choice((1.0, 5.0, 20.0, 50.0)),
            slow_link=sometimes(0.3, 0.01, 0.1),
            disk_ms=rng.choice((0.5, 2.0, 20.0)),
            disk_stall=sometimes(0.3, 0.001, 0.02),
            tick_skew=sometimes(0.3, 0.02, 0.2),
            election_ticks=rng.choice((2, 5, 5, 5)),
            crash_every_ms=int(sometimes(0.6, 250, 2000)),
            pause_every_ms=int(sometimes(0.3, 300, 2000)),
            power_cut_every_ms=int(sometimes(0.2, 700, 3000)),
            disk_loss_every_ms=int(sometimes(0.2, 500, 3000)),
            cut_every_ms=int(sometimes(0.5, 300, 2000)),
            change_every_ms=int(sometimes(0.5, 150, 1000)),
            transfer_every_ms=int(sometimes(0.4, 250, 1500)),
            aim_vote=sometimes(0.4, 0.05, 0.9),
            aim_persist=sometimes(0.3, 0.002, 0.02),
            aim_change=sometimes(0.4, 0.1, 0.5),
            aim_snapshot=sometimes(0.4, 0.1, 0.5),
            aim_elected=sometimes(0.3, 0.05, 0.6),
            aim_commit=sometimes(0.3, 0.02, 0.5),
            aim_learner=sometimes(0.4, 0.2, 0.8),
            snapshot_every=rng.choice((0, 6, 15, 40)),
            keep_entries=rng.choice((0, 3, 20)),
            entries_max=rng.choice((1, 2, 8, 1024)),
            window=rng.choice((1, 4, 64)),
            batch=rng.choice((1, 3)),
            disk_refusal_every_ms=refusal_ms,
        )

    def settings(self) -> Settings:
        """The members' settings in this life."""
        return Settings(
            election_ticks_min=self.election_ticks,
            append_entries_max=self.entries_max,
            appends_in_flight_max=self.window,
            promote_lag_max=5,
            promote_ticks_min=3,
            uncommitted_bytes_max=2000,
        )

    def __str__(self) -> str:
        on = [(f.name, getattr(self, f.name)) for f in fields(self)]
        return " ".join(f"{name}={value:.3g}" for name, value in on if value)
