"""What the last entries did, kept for those who resume: bounded by what it may weigh, never by time.

Recording is on the way of every write, so it keeps what apply has in its hands and makes nothing of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

from swarmd.model import StoredObject
from swarmd.state.tables import Rows

HISTORY_BYTES_MAX: Final = 32 << 20
"""Of entries, each with `EVENT_BYTES` more for every object it changed."""
EVENT_BYTES: Final = 1024
"""About what one event holds in memory beside its entry's bytes: the record, and an old object that nobody else has."""
_TRIMMED_PART: Final = 16
"""Once over the bound, a 16th of it is freed at once: giving up one record for each new one costs more."""
_COMPACT_MIN: Final = 1024

Change = tuple[Rows[Any], StoredObject | None, StoredObject | None]
"""(rows, old, new), as `judge.Plan` makes it."""
Done = tuple[int, float, Sequence[Change]]
"""(index, the proposer's clock, changes in order): what one entry did."""
_Record = tuple[Any, ...]
"""(index, clock, weight, rows, old, new), or (index, clock, weight, changes). Most entries change one object, and each
object that stays in memory costs the next writes their place in the processor's cache: 1 us with two tuples more."""


class History:
    """The changes of every entry after `start`. The newest entry is kept whatever it weighs.

    Args:
        bytes_max: what all records together may weigh.
    """

    __slots__ = ("_bytes_max", "_first", "_records", "_weight", "start")

    def __init__(self, *, bytes_max: int = HISTORY_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._records: list[_Record | None] = []
        self._first = 0
        """Position of the oldest record; those before it are given up already."""
        self._weight = 0
        self.start = 0
        """Entries up to this one are not in it (any more)."""

    def __len__(self) -> int:
        return len(self._records) - self._first

    def record(self, index: int, at: float, body_bytes: int, changes: Collection[Change]) -> None:
        """Note what entry `index` did. An entry without changes need not be noted."""
        weight = body_bytes + EVENT_BYTES * len(changes)
        if len(changes) == 1:
            ((rows, old, new),) = changes
            self._records.append((index, at, weight, rows, old, new))
        else:
            self._records.append((index, at, weight, tuple(changes)))
        self._weight += weight
        if self._weight > self._bytes_max:
            self._trim()

    def begin_at(self, index: int) -> None:
        """Forget everything: the state was replaced by a snapshot at `index`."""
        self._records, self._first, self._weight = [], 0, 0
        self.start = index

    def after(self, index: int) -> Iterator[Done]:
        """What entries after `index` did, oldest first. Valid until the next record."""
        records = self._records
        oldest = bisect_right(records, index, lo=self._first, key=_index_of)
        for position in range(oldest, len(records)):
            record = records[position]
            assert record is not None
            yield record[0], record[1], record[3] if len(record) == 4 else (record[3:],)

    def _trim(self) -> None:
        records, first = self._records, self._first
        aim = self._bytes_max - self._bytes_max // _TRIMMED_PART
        while self._weight > aim and first < len(records) - 1:
            oldest = records[first]
            assert oldest is not None
            self.start = oldest[0]
            self._weight -= oldest[2]
            records[first] = None
            first += 1
        if first >= _COMPACT_MIN and 2 * first > len(records):
            del records[:first]
            first = 0
        self._first = first


def _index_of(record: _Record | None) -> int:
    assert record is not None
    index: int = record[0]
    return index
