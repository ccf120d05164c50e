"""A checker that finds nothing is worth nothing: each promise is broken once, in a history that is otherwise good."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from swarmd.errors import Conflict, DeadlineExceeded, Gone, Internal, OutcomeUnknown, Unavailable
from tests.chaos.check import problems
from tests.chaos.clients import _outcome, defects
from tests.chaos.history import OK, REFUSED, UNKNOWN, Call, Held, load, save
from tests.chaos.run import longest_gap_s


def change(
    kind: str, key: str, value: int, began: float, ended: float, outcome: str = OK, *, expected: int = 0
) -> Call:
    return Call(
        client=1,
        manager=1,
        kind=kind,
        key=key,
        value=value,
        began=began,
        ended=ended,
        outcome=outcome,
        expected=expected,
    )


def read(key: str, value: int, version: int, began: float, ended: float) -> Call:
    return Call(client=2, manager=2, kind="read", key=key, value=value, version=version, began=began, ended=ended)


def status(manager: int, index: int, digest: str) -> Call:
    return Call(client=3, manager=manager, kind="status", version=index, digest=digest, began=1, ended=1)


GOOD = [
    change("create", "object-1", 1, 0, 1),
    change("write", "a", 2, 0, 1),
    read("a", 2, 2, 2, 3),
    change("cas", "a", 3, 3, 4, expected=2),
    change("cas", "a", 4, 5, 6, REFUSED, expected=2),
    change("write", "a", 5, 7, 17, UNKNOWN),
    read("a", 3, 3, 8, 9),
    read("a", 5, 4, 20, 21),
    change("write", "a", 6, 22, 32, UNKNOWN),
    change("create", "object-7", 7, 22, 32, UNKNOWN),
    status(1, 40, "aa"),
    status(2, 40, "aa"),
    status(2, 41, "bb"),
]


def held(value: int = 5, version: int = 4, **changes: object) -> list[Held]:
    """All three managers agree; `changes` are the third's alone."""
    good = Held(manager=1, index=50, digest="cc", values={"object-1": 1, "a": value}, versions={"a": version})
    return [
        good,
        msgspec.structs.replace(good, manager=2),
        msgspec.structs.replace(good, **{"manager": 3, **changes}),
    ]


def found(history: list[Call], ends: list[Held]) -> str:
    return "\n".join(problems(history, ends))


def test_nothing_is_found_in_a_good_history() -> None:
    assert problems(GOOD, held()) == []


def test_an_unknown_write_may_have_happened_or_not_and_in_the_end_as_well() -> None:
    assert problems(GOOD, held(value=6, version=5)) == []
    assert problems([call for call in GOOD if call.value != 5], held(value=3, version=3)) == []
    with_object = [msgspec.structs.replace(end, values={**end.values, "object-7": 7}) for end in held()]
    assert problems(GOOD, with_object) == []


def test_a_lost_acknowledged_object() -> None:
    assert "acknowledged object object-1 is missing on manager 3" in found(GOOD, held(values={"a": 5}))


def test_a_lost_acknowledged_change() -> None:
    lost = [*GOOD, change("write", "a", 8, 40, 41), read("a", 5, 4, 42, 43)]
    assert "not linearizable" in found(lost, held())
    nobody_read_it = [*GOOD[:8], change("write", "a", 8, 40, 41)]
    assert "3 changes were acknowledged" not in found(nobody_read_it, held(version=5))
    assert "3 changes were acknowledged, 1 are unknown" in found(nobody_read_it, held(version=3))


def test_a_change_that_acted_twice() -> None:
    assert "was changed 5 times" in found(GOOD, held(version=6))


def test_a_stale_read() -> None:
    stale = found([*GOOD, read("a", 3, 3, 40, 41)], held())
    assert "read at version 4 and later at 3" in stale
    assert "not linearizable" in stale


def test_a_stale_read_of_one_who_had_not_read_before() -> None:
    """Right after an acknowledged write nobody may see what was before it."""
    assert "not linearizable" in found([*GOOD[:2], read("a", 0, 1, 2, 3)], held(value=2, version=2))


def test_a_read_that_saw_the_write_begin_is_not_stale() -> None:
    assert problems([GOOD[0], GOOD[1], read("a", 0, 1, 0.5, 3)], held(value=2, version=2)) == []


def test_a_refused_write_that_was_read() -> None:
    assert "a refused write was read" in found([*GOOD, read("a", 4, 5, 40, 41)], held())


def test_a_refused_write_that_is_there_in_the_end() -> None:
    assert "a refused write is in a on manager 1" in found(GOOD, held(value=4))
    refused = change("create", "object-9", 9, 30, 31, REFUSED)
    there = [msgspec.structs.replace(end, values={**end.values, "object-9": 9}) for end in held()]
    assert "a refused write is in object-9" in found([*GOOD, refused], there)


def test_two_changes_of_one_version() -> None:
    twice = [*GOOD, change("cas", "a", 8, 40, 41, expected=2)]
    assert "two changes of version 2" in found(twice, held())


def test_one_version_with_two_values() -> None:
    assert "was read with two values" in found([*GOOD, read("a", 2, 4, 20, 21)], held())


def test_replicas_that_differ() -> None:
    assert "at index 41 manager 3 has the digest xx" in found([*GOOD, status(3, 41, "xx")], held())
    assert "at index 50 manager 3" in found(GOOD, held(digest="dd"))
    assert found([*GOOD, status(3, 0, ""), status(2, 0, "00")], held()) == "", "one has no open log yet"
    assert "ended at index 50, manager 3 at 49" in found(GOOD, held(index=49))
    assert "different objects" in found(GOOD, held(values={"object-1": 1, "a": 3}))


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Unavailable("no leader"), REFUSED),
        (Conflict("out of sequence"), REFUSED),
        (OutcomeUnknown("lost"), UNKNOWN),
        (DeadlineExceeded("slow"), UNKNOWN),
        (Gone("too old a key"), UNKNOWN),
    ],
)
def test_what_an_error_says_of_a_change(error: Exception, outcome: str) -> None:
    assert _outcome(error) == outcome  # type: ignore[arg-type]


def test_an_answer_that_no_fault_explains_is_a_defect() -> None:
    calls = [
        msgspec.structs.replace(GOOD[0], error=f"{error.kind}: {error}")
        for error in (Internal("oh"), Unavailable("no leader"))
    ]
    assert len(defects(calls)) == 1


def test_a_history_that_was_kept_is_the_same(tmp_path: Path) -> None:
    save(tmp_path / "history.jsonl", GOOD)
    assert load(tmp_path / "history.jsonl") == GOOD


def test_the_longest_time_without_a_write() -> None:
    assert longest_gap_s(GOOD) == 3.0
