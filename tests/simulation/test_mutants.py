"""The simulator finds each broken promise within so many lives; unbroken, the same lives keep them all."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.world import simulate

pytestmark = pytest.mark.slow


def first_seed_that_fails(seeds_max: int, **factories: Any) -> int | None:
    for seed in range(seeds_max):
        try:
            simulate(seed, **factories)
        except AssertionError:
            return seed
    return None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_simulator_finds(mutant: Mutant) -> None:
    with mutant.broken():
        found = first_seed_that_fails(mutant.seeds_max, **mutant.factories)
    assert found is not None, f"{mutant.name}: not noticed in {mutant.seeds_max} lives"
    whole = {name: value for name, value in mutant.factories.items() if name != "core_factory"}
    simulate(found, **whole)
