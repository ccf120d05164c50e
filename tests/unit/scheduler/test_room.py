"""Steps of free amounts keep their order, and masks of them never tell a wrong node."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarmd.scheduler.room import Room, octave

AMOUNTS = st.integers(-5, 40) | st.integers(0, 1 << 60)


@given(less=AMOUNTS, more=AMOUNTS)
def test_a_larger_amount_is_never_in_a_lower_step(less: int, more: int) -> None:
    assert (octave(min(less, more))) <= octave(max(less, more))


@given(free=st.lists(AMOUNTS, max_size=12), request=st.integers(1, 1 << 60) | st.integers(1, 40))
def test_sure_nodes_fit_and_nodes_in_neither_mask_do_not(free: list[int], request: int) -> None:
    room = Room()
    for number, amount in enumerate(free):
        room.place(1 << number, 0)
        room.change(number, 0, amount)
    for number, amount in enumerate(free):
        if room.surely(request) >> number & 1:
            assert amount >= request
        elif not room.perhaps(request) >> number & 1:
            assert amount < request
