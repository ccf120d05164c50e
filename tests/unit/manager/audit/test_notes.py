"""A manager's own notes: at a bounded rate, and nothing is left out without saying so."""

from __future__ import annotations

from swarmd.manager.audit.notes import NOTES_PER_S, TEXT_MAX, Notes, note
from swarmd.wire.audit import AuditRecord


def event(number: int = 0) -> AuditRecord:
    return note("node.list", "node:w1", "10.0.0.9:1", f"refused {number}", at=float(number))


def test_so_many_a_second_are_kept_and_the_others_counted() -> None:
    notes = Notes()
    for number in range(NOTES_PER_S + 5):
        notes.add(event(number), monotonic=100.0)
    assert len(notes.waiting(monotonic=100.5)) == NOTES_PER_S
    assert notes.owes
    kept = notes.waiting(monotonic=101.0)
    assert kept[-1].what == "5 more events of this manager, too many at once to be told one by one"
    assert kept[-1].at == NOTES_PER_S + 4
    assert not notes.owes
    notes.add(event(), monotonic=101.1)
    assert len(notes.waiting(monotonic=101.1)) == NOTES_PER_S + 2


def test_what_waits_stays_until_it_is_written() -> None:
    notes = Notes()
    notes.add(event(1), monotonic=1.0)
    (first,) = notes.waiting(monotonic=1.0)
    notes.add(event(2), monotonic=1.0)
    notes.written(1)
    assert first.result == "refused 1"
    assert [record.result for record in notes.waiting(monotonic=1.0)] == ["refused 2"]


def test_while_nothing_is_written_the_newest_stay_and_the_others_are_counted() -> None:
    notes = Notes()
    for number in range(8):
        notes.add(event(number), monotonic=1.0)
    notes.drop_beyond(3)
    waiting = notes.waiting(monotonic=2.5)
    assert [record.result for record in waiting[:3]] == ["refused 5", "refused 6", "refused 7"]
    assert waiting[3].what.startswith("5 more")


def test_texts_from_elsewhere_are_cut() -> None:
    assert len(note("w" * 9999, "a" * 9999, "d" * 9999, "r" * 9999, at=1.0).actor) == TEXT_MAX
