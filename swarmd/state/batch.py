"""Large sets of changes as several transactions: each takes effect or not as a whole, the set does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from swarmd.state.command import ENTRY_BYTES_MAX

CHANGES_MAX: Final = 200
"""Changes in one transaction of a batch writer (SwarmKit `store.MaxChangesPerTransaction`)."""
BATCH_BYTES_MAX: Final = ENTRY_BYTES_MAX * 3 // 4
"""Estimated bytes at which a batch is cut; the rest is room for claims and for the estimate's error."""

T = TypeVar("T")


def batches(
    items: Iterable[T],
    *,
    bytes_of: Callable[[T], int] = lambda _: 0,
    changes_max: int = CHANGES_MAX,
    bytes_max: int = BATCH_BYTES_MAX,
) -> Iterator[tuple[T, ...]]:
    """`items` in order, in groups of at most `changes_max` and about `bytes_max` by `bytes_of`.

    An item is never split: one that alone exceeds `bytes_max` makes a group of its own, and if it exceeds
    `ENTRY_BYTES_MAX` too, encoding its command raises `ResourceExhausted`.
    """
    group: list[T] = []
    size = 0
    for item in items:
        item_bytes = bytes_of(item)
        if group and (len(group) >= changes_max or size + item_bytes > bytes_max):
            yield tuple(group)
            group, size = [], 0
        group.append(item)
        size += item_bytes
    if group:
        yield tuple(group)
