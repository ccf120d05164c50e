from __future__ import annotations

from itertools import pairwise

import pytest

from tests.chaos.nemesis import unheard
from tests.chaos.schedule import DEFAULT_FAULTS, FAULTS, LAST_END_S, LEADER, NETWORK, Step, schedule

SEEDS = range(40)
EVERYBODY = (1, 2, 3, 4, 5)


def test_a_seed_is_always_the_same_run_and_another_one_is_another() -> None:
    runs = [schedule(seed, managers=5, seconds=120) for seed in SEEDS]
    assert runs == [schedule(seed, managers=5, seconds=120) for seed in SEEDS]
    assert len(set(runs)) == len(SEEDS)


@pytest.mark.parametrize("managers", [3, 5])
def test_every_fault_comes_in_its_time_and_names_managers_that_exist(managers: int) -> None:
    seen = set()
    for seed in SEEDS:
        steps = schedule(seed, managers=managers, seconds=120, faults=FAULTS)
        seen |= {step.fault for step in steps}
        for step in steps:
            assert 0 < step.at_s < step.at_s + step.for_s <= 120 - LAST_END_S + 0.1
            assert set(step.whom) <= {LEADER, *range(1, managers + 1)}
            assert step.whom
    assert seen == set(FAULTS)


def test_faults_of_one_kind_never_overlap_and_those_of_both_kinds_do() -> None:
    overlaps = 0
    for seed in SEEDS:
        steps = schedule(seed, managers=3, seconds=120)
        for kind in (True, False):
            track = [step for step in steps if (step.fault in NETWORK) is kind]
            for one, other in pairwise(track):
                assert one.at_s + one.for_s < other.at_s
        overlaps += any(one.at_s < other.at_s < one.at_s + one.for_s for one, other in pairwise(steps))
    assert overlaps > len(SEEDS) / 2


def test_only_what_was_asked_for_happens() -> None:
    assert {step.fault for step in schedule(1, managers=3, seconds=300, faults=("cut", "pause"))} == {"cut", "pause"}
    assert schedule(1, managers=3, seconds=300, faults=()) == ()
    assert "disk" not in DEFAULT_FAULTS
    with pytest.raises(ValueError, match="no such fault: flood"):
        schedule(1, managers=3, seconds=300, faults=("flood", "cut"))


def a_cut(fault: str, *, middle: int = 0, amount: int = 0) -> Step:
    return Step(at_s=1, for_s=1, fault=fault, whom=(1,), middle=middle, amount=amount)


def hears(fault: Step, whom: tuple[int, ...]) -> set[tuple[int, int]]:
    """Who hears whom."""
    dropped = unheard(fault, whom, EVERYBODY)
    return {(a, b) for a in EVERYBODY for b in EVERYBODY if a != b and b not in dropped.get(a, ())}


def test_a_cut_makes_two_halves() -> None:
    assert hears(a_cut("cut"), (1, 2)) == {
        (a, b) for a in EVERYBODY for b in EVERYBODY if a != b and (a in (1, 2)) == (b in (1, 2))
    }


def test_a_bridge_is_heard_by_both_halves() -> None:
    heard = hears(a_cut("bridge", middle=3), (1, 2))
    assert {(3, n) for n in (1, 2, 4, 5)} | {(n, 3) for n in (1, 2, 4, 5)} <= heard
    assert not {(a, b) for a in (1, 2) for b in (4, 5)} & heard


def test_one_way_is_one_way() -> None:
    unheard_by_all = hears(a_cut("oneway", amount=1), (1,))
    assert {n for n in EVERYBODY if (n, 1) in unheard_by_all} == set()
    assert {n for n in EVERYBODY if (1, n) in unheard_by_all} == {2, 3, 4, 5}
    deaf = hears(a_cut("oneway", amount=-1), (1,))
    assert {n for n in EVERYBODY if (1, n) in deaf} == set()
    assert {n for n in EVERYBODY if (n, 1) in deaf} == {2, 3, 4, 5}
