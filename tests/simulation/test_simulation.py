"""Five hundred lives, each with its own weather; every event checked, convergence demanded once healed."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.state_machine import ContestedMachine, StateMachine
from tests.simulation.world import World, simulate

SEEDS = range(500)
SEEDS_PER_TEST = 25
STATE_SEEDS = range(500, 600)
"""Apply and snapshots of the real state cost more than a register's."""


@pytest.mark.slow
@pytest.mark.parametrize("first", SEEDS[::SEEDS_PER_TEST])
def test_lives_keep_every_promise_and_converge_once_healed(first: int, lived: Counter[str]) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        lived += simulate(seed)
        lived["lives"] += 1


@pytest.mark.slow
@pytest.mark.parametrize("first", STATE_SEEDS[::SEEDS_PER_TEST])
@pytest.mark.parametrize("machine", [StateMachine, ContestedMachine])
def test_members_that_replicate_the_products_state_agree_on_its_digest(
    machine: type[StateMachine], first: int, lived: Counter[str]
) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        lived += simulate(seed, machine_factory=machine)
        lived["lives"] += 1
        lived["lives with the product's state"] += 1


def test_the_same_seed_replays_event_for_event() -> None:
    worlds = [World(7), World(7)]
    for world in worlds:
        world.live()
    assert worlds[0].step == worlds[1].step
    assert worlds[0].count == worlds[1].count
    assert worlds[0].describe() == worlds[1].describe()


def test_the_weather_contains_what_it_is_meant_to() -> None:
    total: Counter[str] = Counter()
    for seed in range(700, 740):
        total += simulate(seed)
    for what in (
        *("elections", "crashes", "writes lost", "membership changes", "snapshots installed", "transfers"),
        *("pauses", "power cuts", "disks lost", "partitions", "learners wiped"),
    ):
        assert total[what] > 0, what
