"""What one manager noticed by itself: refused calls and the like, at a bounded rate. Pure: the clock is passed in."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final

import msgspec
from msgspec.structs import replace

from swarmd.wire.audit import AuditRecord

NOTES_PER_S: Final = 10
WINDOW_S: Final = 1.0
REPEATED_S: Final = 60.0
"""Of what somebody repeats, one note in this time tells, and how often it was."""
REPEATERS_MAX: Final = 1_000
"""Whose repetitions are counted apart; beyond, the oldest is told of early."""
TEXT_MAX: Final = 300


class _Repeated(msgspec.Struct):
    """What one address did again and again since it was last told of."""

    record: AuditRecord
    """The latest."""
    told_at: float
    times: int = 0


class Notes:
    """At most 10 a second are kept; of what is beyond, one note says how many there were.

    What is refused without being looked at (`add_repeated`) is told of once a minute for each address.
    """

    def __init__(self) -> None:
        self._waiting: list[AuditRecord] = []
        self._window_began = float("-inf")
        self._in_window = 0
        self._left_out = 0
        self._left_out_at = 0.0
        self._repeated: OrderedDict[tuple[str, str], _Repeated] = OrderedDict()

    def add(self, record: AuditRecord, *, monotonic: float) -> None:
        """Keep it, or count it."""
        self._roll(monotonic)
        self._keep(record)

    def _keep(self, record: AuditRecord) -> None:
        if self._in_window < NOTES_PER_S:
            self._in_window += 1
            self._waiting.append(record)
        else:
            self._left_out += 1
            self._left_out_at = record.at

    def add_repeated(self, record: AuditRecord, host: str, *, monotonic: float) -> None:
        """Keep the first of its kind from `host` in a minute, and count the others."""
        self._roll(monotonic)
        key = (record.what, host)
        known = self._repeated.get(key)
        if known is not None:
            known.record, known.times = record, known.times + 1
            return
        if len(self._repeated) >= REPEATERS_MAX:
            self._tell(self._repeated.popitem(last=False)[1])
        self._repeated[key] = _Repeated(record, monotonic)
        self._keep(record)

    @property
    def due_at(self) -> float:
        """When it has something to say although nothing new happened: how many were left out. Infinity: nothing."""
        left_out_at = self._window_began + WINDOW_S if self._left_out else math.inf
        first = next((known for known in self._repeated.values() if known.times), None)
        return min(left_out_at, first.told_at + REPEATED_S if first is not None else math.inf)

    def waiting(self, *, monotonic: float) -> tuple[AuditRecord, ...]:
        """What is to be written; it stays until `written`."""
        self._roll(monotonic)
        return tuple(self._waiting)

    def written(self, count: int) -> None:
        """The first `count` of what waits are in the file."""
        del self._waiting[:count]

    def drop_beyond(self, count: int) -> None:
        """While nothing can be written: keep the newest `count`, and count the others."""
        too_many = len(self._waiting) - count
        if too_many > 0:
            self._left_out += too_many
            self._left_out_at = self._waiting[too_many - 1].at
            del self._waiting[:too_many]

    def _roll(self, monotonic: float) -> None:
        self._roll_window(monotonic)
        # In order of `told_at`: whoever is told of goes to the end.
        while self._repeated:
            key, known = next(iter(self._repeated.items()))
            if monotonic - known.told_at < REPEATED_S:
                return
            del self._repeated[key]
            if known.times:
                self._tell(known)
                self._repeated[key] = _Repeated(known.record, monotonic)

    def _tell(self, known: _Repeated) -> None:
        if known.times:
            result = f"{known.times} more times, the last: {known.record.result}"
            self._keep(replace(known.record, result=result[:TEXT_MAX]))

    def _roll_window(self, monotonic: float) -> None:
        if monotonic - self._window_began < WINDOW_S:
            return
        self._window_began, self._in_window = monotonic, 0
        if self._left_out:
            what = f"{self._left_out} more events of this manager, too many at once to be told one by one"
            self._waiting.append(AuditRecord(index=0, at=self._left_out_at, actor="", result="left out", what=what))
            self._left_out = 0


def note(what: str, actor: str, address: str, result: str, *, at: float) -> AuditRecord:
    """A note as it is kept: texts that may come from elsewhere are cut."""
    return AuditRecord(
        index=0,
        at=at,
        actor=actor[:TEXT_MAX],
        result=result[:TEXT_MAX],
        what=what[:TEXT_MAX],
        address=address[:TEXT_MAX],
    )
