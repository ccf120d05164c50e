"""When a disk is low, or critical, and when it is well again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from swarmd.manager.disk_space import BETTER_FACTOR, critical_bytes, judge, low_bytes
from swarmd.storage.reserve import Space
from swarmd.wire.disk import DiskCondition

GIB, MIB = 1 << 30, 1 << 20
WELL, LOW, CRITICAL = DiskCondition.WELL, DiskCondition.LOW, DiskCondition.CRITICAL


def test_a_large_disk_has_bounds_in_bytes_and_a_small_one_in_shares() -> None:
    assert (low_bytes(1000 * GIB), critical_bytes(1000 * GIB)) == (GIB, 64 * MIB)
    assert (low_bytes(100 * MIB), critical_bytes(100 * MIB)) == (10 * MIB, 3 * MIB)


def test_what_has_become_scarce_must_be_there_in_plenty_to_count_as_well() -> None:
    total = 1000 * GIB
    seen = []
    condition = WELL
    for free in (2 * GIB, GIB, GIB - 1, GIB + 1, 65 * MIB, 63 * MIB, 70 * MIB, 81 * MIB, int(1.2 * GIB), 2 * GIB):
        condition = judge(Space(free, total), condition)
        seen.append(condition)
    assert seen == [WELL, WELL, LOW, LOW, LOW, CRITICAL, CRITICAL, LOW, LOW, WELL]


@given(st.integers(0, 4 * GIB), st.integers(1, 4 * GIB), st.sampled_from([WELL, LOW, CRITICAL]))
def test_it_settles_at_once_and_full_is_critical(free: int, total: int, before: DiskCondition) -> None:
    free = min(free, total)
    condition = judge(Space(free, total), before)
    assert judge(Space(free, total), condition) is condition
    assert judge(Space(total, total), before) is WELL
    if critical_bytes(total):
        assert judge(Space(0, total), before) is CRITICAL
    if free >= BETTER_FACTOR * low_bytes(total):
        assert condition is WELL


def test_how_much_a_disk_without_any_size_has_matters_to_nobody() -> None:
    """Some file systems do not tell."""
    assert judge(Space(0, 0), WELL) is WELL
