"""How much space is enough: decided from two numbers, with a gap between the bounds so that nothing flaps."""

from __future__ import annotations

from typing import Final

from swarmd.storage.reserve import Space
from swarmd.wire.disk import DiskCondition

LOW_BYTES: Final = 1 << 30
LOW_SHARE: Final = 0.10
"""The smaller of both: a gigabyte is much on a small disk, and a tenth is much of a large one."""
CRITICAL_BYTES: Final = 64 << 20
CRITICAL_SHARE: Final = 0.03
BETTER_FACTOR: Final = 1.25
"""So much more than a bound must be free before it is taken back."""


def critical_bytes(total: int) -> int:
    """Below this much free space a disk of this size is critical."""
    return min(CRITICAL_BYTES, int(CRITICAL_SHARE * total))


def low_bytes(total: int) -> int:
    """Below this much free space a disk of this size is low."""
    return min(LOW_BYTES, int(LOW_SHARE * total))


def judge(space: Space, before: DiskCondition) -> DiskCondition:
    """WELL, LOW or CRITICAL, given what it was."""
    bounds = ((DiskCondition.CRITICAL, critical_bytes(space.total)), (DiskCondition.LOW, low_bytes(space.total)))
    for condition, bound in bounds:
        factor = BETTER_FACTOR if before >= condition else 1.0
        if space.free < factor * bound:
            return condition
    return DiskCondition.WELL
