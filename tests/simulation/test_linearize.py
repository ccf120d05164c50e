"""The checker itself: what it must accept, and what it must not."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulation.linearize import FOREVER, Operation, linearizable


def write(value: int, began: int, ended: int = FOREVER) -> Operation:
    return Operation(is_write=True, value=value, began=began, ended=ended)


def read(value: int, began: int, ended: int) -> Operation:
    return Operation(is_write=False, value=value, began=began, ended=ended)


def test_a_read_sees_the_last_finished_write() -> None:
    assert linearizable([write(1, 0, 1), read(1, 2, 3)])
    assert not linearizable([write(1, 0, 1), read(0, 2, 3)])


def test_a_read_during_a_write_may_see_either_value() -> None:
    assert linearizable([write(1, 0, 5), read(0, 1, 2)])
    assert linearizable([write(1, 0, 5), read(1, 1, 2)])


def test_a_value_once_seen_does_not_go_away_again() -> None:
    assert not linearizable([write(1, 0, 9), read(1, 1, 2), read(0, 3, 4)])


def test_a_write_without_an_answer_may_happen_late_or_never() -> None:
    assert linearizable([write(1, 0), read(0, 5, 6), read(1, 7, 8)])
    assert linearizable([write(1, 0), read(0, 5, 6)])
    assert not linearizable([write(1, 0), read(2, 5, 6)])


operations = st.builds(
    lambda is_write, value, began, length: Operation(is_write=is_write, value=value, began=began, ended=began + length),
    st.booleans(),
    st.integers(0, 2),
    st.integers(0, 8),
    st.integers(0, 4),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(operations, max_size=5))
def test_it_agrees_with_trying_every_order(history: list[Operation]) -> None:
    assert linearizable(history) == any(_explains(order) for order in itertools.permutations(history))


def _explains(order: tuple[Operation, ...]) -> bool:
    value = 0
    for at, operation in enumerate(order):
        if any(later.ended < operation.began for later in order[at + 1 :]):
            return False
        if operation.is_write:
            value = operation.value
        elif operation.value != value:
            return False
    return True
