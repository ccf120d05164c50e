"""Batches are cut at the limit, keep their order and never split an item."""

from __future__ import annotations

from swarmd.state import BATCH_BYTES_MAX, CHANGES_MAX, ENTRY_BYTES_MAX, batches


def test_405_changes_make_three_batches() -> None:
    groups = list(batches(range(405)))
    assert [len(group) for group in groups] == [200, 200, 5]
    assert [item for group in groups for item in group] == list(range(405))


def test_a_batch_is_cut_before_it_grows_too_large() -> None:
    half = BATCH_BYTES_MAX // 2
    assert list(batches([half, half, 1, half], bytes_of=lambda size: size)) == [(half, half), (1, half)]


def test_an_item_that_is_too_large_alone_stands_alone() -> None:
    huge = ENTRY_BYTES_MAX * 2
    assert list(batches([1, huge, 1], bytes_of=lambda size: size)) == [(1,), (huge,), (1,)]


def test_nothing_makes_no_batch() -> None:
    assert list(batches([])) == []
    assert CHANGES_MAX == 200
