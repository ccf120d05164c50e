"""The last entries' changes: what is kept, what is given up, and that it stays within its bound."""

from __future__ import annotations

from typing import Any, cast

import pytest

from swarmd.state.history import EVENT_BYTES, Change, History

ROWS = cast("Any", "rows")


def record(history: History, index: int, *, changes: int = 1, body_bytes: int = 0) -> None:
    made: list[Change] = [(ROWS, None, None)] * changes
    history.record(index, float(index), body_bytes, made)


def indexes(history: History, after: int) -> list[int]:
    return [found[0] for found in history.after(after)]


def test_what_came_after_an_index_comes_back_in_order() -> None:
    history = History()
    for index in (2, 3, 7, 9):
        record(history, index)
    assert indexes(history, 0) == [2, 3, 7, 9]
    assert indexes(history, 3) == indexes(history, 6) == [7, 9]
    assert indexes(history, 9) == indexes(history, 100) == []


def test_beyond_its_bound_the_oldest_go_and_it_says_from_where_on_it_is_whole() -> None:
    history = History(bytes_max=3 * EVENT_BYTES)
    for index in (1, 2, 3):
        record(history, index)
    assert history.start == 0
    record(history, 5)
    assert (history.start, indexes(history, 2)) == (2, [3, 5])
    record(history, 6)
    assert (history.start, len(history)) == (2, 3)
    record(history, 9, changes=2)
    assert (history.start, indexes(history, 6)) == (6, [9])


def test_bytes_of_entries_count_too() -> None:
    history = History(bytes_max=10 * EVENT_BYTES)
    record(history, 1, body_bytes=0)
    record(history, 2, body_bytes=7 * EVENT_BYTES)
    assert (history.start, len(history)) == (0, 2)
    record(history, 3, body_bytes=8 * EVENT_BYTES)
    assert (history.start, len(history)) == (2, 1)


def test_the_newest_entry_is_kept_whatever_it_weighs() -> None:
    history = History(bytes_max=EVENT_BYTES)
    record(history, 1)
    record(history, 2, changes=100)
    assert (history.start, indexes(history, 1)) == (1, [2])


@pytest.mark.parametrize("changes", [1, 3])
def test_it_never_holds_more_than_its_bound_and_gives_the_memory_back(changes: int) -> None:
    history = History(bytes_max=3000 * EVENT_BYTES)
    for index in range(1, 20_000):
        record(history, index, changes=changes)
        assert len(history) * changes <= 3000
    assert len(history) * changes > 2800
    assert len(history._records) <= 2 * 3000
    assert sum(kept is not None for kept in history._records) == len(history)
    assert indexes(history, history.start) == list(range(20_000 - len(history), 20_000))


def test_a_snapshot_makes_it_begin_anew() -> None:
    history = History()
    record(history, 1)
    history.begin_at(50)
    assert (history.start, indexes(history, 50)) == (50, [])
    record(history, 51)
    assert indexes(history, 50) == [51]
