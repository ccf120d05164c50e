from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.raft.quorum import (
    PollResult,
    count_votes,
    failures_tolerated,
    is_quorum,
    majority,
    reached_by_majority,
)


def test_majority_and_failures_tolerated_add_up() -> None:
    assert [(majority(n), failures_tolerated(n)) for n in range(1, 8)] == [
        (1, 0),
        (2, 0),
        (2, 1),
        (3, 1),
        (3, 2),
        (4, 2),
        (4, 3),
    ]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=7))
def test_reached_by_majority_agrees_with_counting(positions: list[int]) -> None:
    reached = max(x for x in positions if sum(1 for p in positions if p >= x) >= majority(len(positions)))
    assert reached_by_majority(list(positions)) == reached


@settings(max_examples=100, deadline=None)
@given(st.sets(st.integers(1, 5), min_size=1), st.dictionaries(st.integers(1, 9), st.booleans()))
def test_a_poll_is_over_exactly_when_the_silent_cannot_change_it(voters: set[int], votes: dict[int, bool]) -> None:
    granted = sum(votes.get(v) is True for v in voters)
    silent = sum(v not in votes for v in voters)
    needed = majority(len(voters))
    expected = PollResult.PENDING
    if granted >= needed:
        expected = PollResult.WON
    elif granted + silent < needed:
        expected = PollResult.LOST
    assert count_votes(votes, voters) is expected


def test_nobody_is_no_quorum_of_nobody() -> None:
    assert not is_quorum((), ())
    assert count_votes({}, ()) is PollResult.LOST
    assert is_quorum((1, 2, 9), (1, 2, 3))
    assert not is_quorum((1, 9), (1, 2))
