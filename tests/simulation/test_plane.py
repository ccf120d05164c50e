"""Lives of the whole control plane: every entry checked, convergence and rest demanded once calm; mutants are found."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.plane.life import simulate
from tests.simulation.plane.mutants import MUTANTS, Mutant

SEEDS = range(40)
SEEDS_PER_TEST = 20


@pytest.mark.slow
@pytest.mark.parametrize("first", SEEDS[::SEEDS_PER_TEST])
def test_lives_keep_every_promise_and_come_to_rest_once_calm(first: int, lived: Counter[str]) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        lived += Counter({f"plane: {what}": count for what, count in simulate(seed).items()})
        lived["plane: lives"] += 1


def test_the_same_seed_lives_the_same_life() -> None:
    assert simulate(7) == simulate(7)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_simulation_finds(mutant: Mutant) -> None:
    with mutant.broken():
        assert any(_fails(seed) for seed in mutant.seeds), f"not noticed in {len(mutant.seeds)} lives"


def _fails(seed: int) -> bool:
    try:
        simulate(seed)
    except Exception:  # noqa: BLE001 - a broken rule may show as any error of any part
        return True
    return False
