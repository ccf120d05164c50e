"""A manager's own notes: at a bounded rate, and nothing is left out without saying so."""

from __future__ import annotations

import math

from swarmd.manager.audit.notes import NOTES_PER_S, REPEATED_S, REPEATERS_MAX, TEXT_MAX, Notes, note
from swarmd.wire.audit import AuditRecord


def event(number: int = 0) -> AuditRecord:
    return note("node.list", "node:w1", "10.0.0.9:1", f"refused {number}", at=float(number))


def test_so_many_a_second_are_kept_and_the_others_counted() -> None:
    notes = Notes()
    for number in range(NOTES_PER_S + 5):
        notes.add(event(number), monotonic=100.0)
    assert len(notes.waiting(monotonic=100.5)) == NOTES_PER_S
    assert notes.due_at == 101.0
    kept = notes.waiting(monotonic=101.0)
    assert kept[-1].what == "5 more events of this manager, too many at once to be told one by one"
    assert kept[-1].at == NOTES_PER_S + 4
    assert notes.due_at == math.inf
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


def throttled(notes: Notes, at: float, host: str = "10.0.0.9") -> None:
    notes.add_repeated(note("ca.issue", "anonymous", f"{host}:{at:.0f}", "too many", at=at), host, monotonic=at)


def test_what_is_repeated_is_told_at_once_and_then_once_a_minute_with_its_number() -> None:
    notes = Notes()
    for second in range(50):
        throttled(notes, float(second))
    assert [record.result for record in notes.waiting(monotonic=REPEATED_S - 1)] == ["too many"]
    assert notes.due_at == REPEATED_S
    told = notes.waiting(monotonic=notes.due_at)
    assert [record.result for record in told] == ["too many", "49 more times, the last: too many"]
    assert (told[-1].address, told[-1].at) == ("10.0.0.9:49", 49.0)
    assert notes.due_at == math.inf, "nothing more is owed"
    throttled(notes, REPEATED_S + 1)
    assert len(notes.waiting(monotonic=REPEATED_S + 1)) == 2, "the next minute has begun with what was told"
    assert notes.waiting(monotonic=3 * REPEATED_S)[-1].result.startswith("1 more times")


def test_a_host_that_stops_is_forgotten_and_starts_anew() -> None:
    notes = Notes()
    throttled(notes, 0.0)
    throttled(notes, 2 * REPEATED_S)
    assert [record.result for record in notes.waiting(monotonic=2 * REPEATED_S)] == ["too many", "too many"]


def test_each_host_is_counted_apart_and_the_oldest_of_too_many_is_told_of_early() -> None:
    notes = Notes()
    throttled(notes, 0.0, "first")
    throttled(notes, 0.0, "first")
    for number in range(REPEATERS_MAX - 1):
        throttled(notes, number / 20, f"host-{number}")  # twenty a second: some of the notes are left out
    throttled(notes, 55.0, "one too many")
    assert "1 more times, the last: too many" in [r.result for r in notes.waiting(monotonic=REPEATED_S - 1)]
    assert len(notes._repeated) == REPEATERS_MAX


def test_many_hosts_at_once_are_held_by_the_limit_of_all_notes() -> None:
    notes = Notes()
    for number in range(100):
        throttled(notes, 0.0, f"host-{number}")
    assert len(notes.waiting(monotonic=0.0)) == NOTES_PER_S
    assert notes.waiting(monotonic=1.0)[-1].what.startswith("90 more")
