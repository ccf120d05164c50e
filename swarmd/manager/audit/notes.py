"""What one manager noticed by itself: refused calls and the like, at a bounded rate. Pure: the clock is passed in."""

from __future__ import annotations

from typing import Final

from swarmd.wire.audit import AuditRecord

NOTES_PER_S: Final = 10
WINDOW_S: Final = 1.0
TEXT_MAX: Final = 300


class Notes:
    """At most 10 a second are kept; of what is beyond, one note says how many there were."""

    def __init__(self) -> None:
        self._waiting: list[AuditRecord] = []
        self._window_began = float("-inf")
        self._in_window = 0
        self._left_out = 0
        self._left_out_at = 0.0

    def add(self, record: AuditRecord, *, monotonic: float) -> None:
        """Keep it, or count it."""
        self._roll(monotonic)
        if self._in_window < NOTES_PER_S:
            self._in_window += 1
            self._waiting.append(record)
        else:
            self._left_out += 1
            self._left_out_at = record.at

    @property
    def owes(self) -> bool:
        """Whether it has to say yet how many were left out: when the window is over."""
        return self._left_out > 0

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
