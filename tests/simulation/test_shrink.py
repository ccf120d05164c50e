from __future__ import annotations

from dataclasses import asdict

import pytest

from tests.simulation.faults import Faults
from tests.simulation.mutants import VotesForShorterLogs
from tests.simulation.shrink import Reduced, kind_of, reduce
from tests.simulation.world import World, simulate


def first_failure() -> Reduced:
    for seed in range(100):
        found = reduce(seed, core_factory=VotesForShorterLogs)
        if found is not None:
            return found
    raise AssertionError("the mutant was not noticed")


@pytest.mark.slow
def test_a_failure_is_reduced_to_fewer_faults_and_replays() -> None:
    found = first_failure()
    drawn, left = World(found.seed).faults, World(found.seed, weather=found.weather).faults
    assert _faults_on(left) < _faults_on(drawn)
    with pytest.raises(AssertionError) as caught:
        simulate(found.seed, weather=found.weather, safety_ms=found.safety_ms, core_factory=VotesForShorterLogs)
    assert str(caught.value) == found.failure
    assert f"make simulate SEED={found.seed} " in str(found)


def test_a_life_that_keeps_its_promises_is_not_reduced() -> None:
    assert reduce(7) is None


def test_failures_are_of_one_kind_whatever_their_numbers() -> None:
    one, another = "Violation('two leaders in term 2: 1 and 3')", "Violation('two leaders in term 19: 4 and 5')"
    assert kind_of(f"{one}\nseed 1") == kind_of(f"{another}\nseed 12")
    assert kind_of(one) != kind_of("no convergence")


def _faults_on(faults: Faults) -> int:
    return sum(1 for value in asdict(faults).values() if value)
