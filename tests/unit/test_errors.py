from __future__ import annotations

import pytest

from swarmd import errors
from swarmd.errors import CLASS_OF_KIND, EXIT_CODE, ErrorKind, Locked, OutcomeUnknown, SwarmError


def test_every_kind_has_a_class_and_an_exit_code() -> None:
    assert set(CLASS_OF_KIND) == set(EXIT_CODE) == set(ErrorKind)


def test_classes_and_kinds_agree() -> None:
    assert all(CLASS_OF_KIND[kind].kind is kind for kind in ErrorKind)


def test_every_error_class_is_the_class_of_its_kind_or_refines_it() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, SwarmError)]
    assert len(classes) == len(ErrorKind) + 3
    assert all(issubclass(cls, CLASS_OF_KIND[cls.kind]) for cls in classes if cls is not SwarmError)


def test_unknown_outcome_is_a_kind_of_unavailable() -> None:
    assert OutcomeUnknown("x").kind is ErrorKind.UNAVAILABLE


def test_locked_is_a_kind_of_failed_precondition() -> None:
    assert Locked("x").kind is ErrorKind.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (ErrorKind.INTERNAL, 1),
        (ErrorKind.INVALID, 2),
        (ErrorKind.NOT_FOUND, 3),
        (ErrorKind.CONFLICT, 4),
        (ErrorKind.FAILED_PRECONDITION, 4),
        (ErrorKind.PERMISSION_DENIED, 5),
        (ErrorKind.UNAVAILABLE, 6),
        (ErrorKind.DEADLINE_EXCEEDED, 7),
        (ErrorKind.CANCELLED, 130),
    ],
)
def test_exit_codes_that_scripts_rely_on(kind: ErrorKind, code: int) -> None:
    assert EXIT_CODE[kind] == code


def test_no_exit_code_means_success() -> None:
    assert 0 not in EXIT_CODE.values()


def test_an_error_says_what_it_was_given() -> None:
    error = errors.Invalid("bad", field="$.name", object="service web", hint="rename it")
    assert (str(error), error.message, error.field, error.object, error.hint) == (
        "bad",
        "bad",
        "$.name",
        "service web",
        "rename it",
    )
