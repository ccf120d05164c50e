"""What a manager knows of its own disk. It outlives the manager part, which a failing disk ends again and again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

from swarmd.manager.disk_space import judge
from swarmd.storage.errors import StorageFailed, StorageFull
from swarmd.storage.reserve import Space
from swarmd.wire.disk import IN_SHORT, DiskCondition, DiskReport

log = logging.getLogger(__name__)

PAUSE_S_MIN: Final = 0.1
"""Before the manager part is begun again after its disk failed; doubles with each failure in a row ..."""
PAUSE_S_MAX: Final = 16.0
"""... up to this."""
SOUND_S: Final = 60.0
"""A disk that took writes for so long before it failed begins counting anew."""


class DiskHealth:
    """The gravest of what was noted. Nothing here waits.

    Args:
        now: epoch seconds, for whoever reads the report.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._space: Space | None = None
        self._by_space = DiskCondition.WELL
        self._is_stalled = False
        self._failure: StorageFailed | None = None
        self._failures_in_a_row = 0
        self._usable_since: float | None = None
        self.report = DiskReport()
        """How the disk is now."""
        self.changed = trio.Event()
        """Set, and replaced by a fresh one, when the condition changes."""

    @property
    def failure(self) -> StorageFailed | None:
        """Why the log is not written, while it is not."""
        return self._failure

    @property
    def pause_s(self) -> float:
        """How long to leave a disk alone that has failed so often."""
        return min(PAUSE_S_MAX, PAUSE_S_MIN * 2.0 ** min(max(self._failures_in_a_row - 1, 0), 10))

    def note_space(self, space: Space) -> None:
        """So much is free."""
        self._space = space
        self._by_space = judge(space, self._by_space)
        self._tell()

    def note_stall(self, *, is_stalled: bool) -> None:
        """Whether a write has been under way for too long."""
        self._is_stalled = is_stalled
        self._tell()

    def note_failure(self, failure: StorageFailed) -> None:
        """The log cannot be written."""
        self._failure = failure
        self._is_stalled = False
        self._tell()

    def count_failure(self, failure: StorageFailed) -> None:
        """The manager part ended for it."""
        lasted = trio.current_time() - self._usable_since if self._usable_since is not None else 0.0
        self._failures_in_a_row = 1 if lasted >= SOUND_S else self._failures_in_a_row + 1
        self._usable_since = None
        self.note_failure(failure)

    def note_usable(self) -> None:
        """The log was opened afresh, and took a write."""
        self._failure = None
        self._usable_since = trio.current_time()
        self._tell()

    def _condition(self) -> DiskCondition:
        if self._failure is not None:
            return DiskCondition.FULL if isinstance(self._failure, StorageFull) else DiskCondition.FAILED
        return max(self._by_space, DiskCondition.STALLED if self._is_stalled else DiskCondition.WELL)

    def _tell(self) -> None:
        before, condition = self.report, self._condition()
        has_changed = condition is not before.condition
        self.report = DiskReport(
            condition=condition,
            since_at=self._now() if has_changed else before.since_at,
            free_bytes=self._space.free if self._space is not None else 0,
            total_bytes=self._space.total if self._space is not None else 0,
            reason=str(self._failure) if self._failure is not None else "",
        )
        if has_changed:
            _say(self.report, before.condition)
            changed, self.changed = self.changed, trio.Event()
            changed.set()


def _say(report: DiskReport, before: DiskCondition) -> None:
    level = logging.INFO if report.condition < before else logging.WARNING
    what = IN_SHORT[report.condition] or "the disk is well again"
    log.log(level, "%s: %d MB of %d MB free %s", what, report.free_bytes >> 20, report.total_bytes >> 20, report.reason)
