"""How a manager's disk is: told to the other managers while something is wrong with it, and shown with the node."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec


class DiskCondition(IntEnum):
    """The graver, the greater. Append-only; one that this version does not know is unreadable to it."""

    WELL = 0
    LOW = 1
    """Worth a look."""
    CRITICAL = 2
    """So little space is left that it must not lead, and takes no new objects."""
    STALLED = 3
    """A write has not come back for seconds."""
    FULL = 4
    """A write was refused for want of space: it does not take part until there is some."""
    FAILED = 5
    """A write or a sync failed: it does not take part until a fresh open takes a write."""


IN_SHORT: Final = {
    DiskCondition.WELL: "",
    DiskCondition.LOW: "disk low",
    DiskCondition.CRITICAL: "disk nearly full",
    DiskCondition.STALLED: "disk stalled",
    DiskCondition.FULL: "disk full",
    DiskCondition.FAILED: "disk failed",
}


class DiskReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a manager says of the disk that its log is on. Each report replaces the one before."""

    condition: DiskCondition = DiskCondition.WELL
    since_at: float = 0.0
    """By the reporter's clock, epoch seconds."""
    free_bytes: int = 0
    """At the last look; 0 with `total_bytes` 0: never looked."""
    total_bytes: int = 0
    reason: str = ""
    """Of FULL and FAILED: what was said of the write."""

    @property
    def may_lead(self) -> bool:
        """Whether this disk is fit for a leader, and counts for taking new objects."""
        return self.condition < DiskCondition.CRITICAL
