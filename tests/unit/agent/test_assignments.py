"""Pages become one set; a gap is told once and spoils the stream."""

from __future__ import annotations

import pytest

from swarmd.agent.assignments import AssignmentsGap, AssignmentsReader, Change, CompleteSet
from swarmd.wire.dispatch import AssignmentsMessage
from tests.unit.agent.worlds import make_task

A, B = make_task(1), make_task(2)


def complete(*tasks: object, results_in: str = "1", more: bool = False) -> AssignmentsMessage:
    return AssignmentsMessage(complete=True, results_in=results_in, tasks=tasks, more=more)  # type: ignore[arg-type]


def test_pages_become_one_set() -> None:
    reader = AssignmentsReader()
    assert reader.read(complete(A, more=True)) is None
    assert reader.read(complete(B)) == CompleteSet(tasks=(A, B))


def test_an_empty_set_is_a_set() -> None:
    assert AssignmentsReader().read(complete()) == CompleteSet(tasks=())


def test_changes_follow_one_another() -> None:
    reader = AssignmentsReader()
    reader.read(complete(A))
    change = reader.read(AssignmentsMessage(applies_to="1", results_in="2", tasks=(B,), removed_tasks=(A.id,)))
    assert change == Change(tasks=(B,), removed=(A.id,))
    assert reader.read(AssignmentsMessage(applies_to="2", results_in="3")) == Change(tasks=(), removed=())


def test_a_set_may_come_again_in_mid_stream() -> None:
    reader = AssignmentsReader()
    reader.read(complete(A))
    assert reader.read(complete(B, results_in="9")) == CompleteSet(tasks=(B,))
    assert reader.read(AssignmentsMessage(applies_to="9", results_in="10")) == Change(tasks=(), removed=())


def test_a_gap_is_told_and_nothing_after_it_is_applied() -> None:
    reader = AssignmentsReader()
    reader.read(complete(A))
    with pytest.raises(AssignmentsGap):
        reader.read(AssignmentsMessage(applies_to="2", results_in="3", tasks=(B,)))
    with pytest.raises(AssignmentsGap):
        reader.read(AssignmentsMessage(applies_to="1", results_in="2"))


@pytest.mark.parametrize("paged", [False, True])
def test_a_change_before_the_whole_set_is_a_gap(paged: bool) -> None:
    reader = AssignmentsReader()
    if paged:
        reader.read(complete(A, more=True))
    with pytest.raises(AssignmentsGap):
        reader.read(AssignmentsMessage(applies_to="", results_in="2"))
