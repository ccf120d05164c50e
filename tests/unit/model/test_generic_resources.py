"""Generic resources as text (reference orchestration 7.5, scenario 31)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmd.errors import Invalid
from swarmd.model import GenericResource
from swarmd.model.generic_resources import (
    format_generic_resources,
    parse_generic_resources,
    resource_environment,
)


def parse(text: str) -> tuple[GenericResource, ...]:
    return parse_generic_resources(text, field="--generic-node-resources")


def test_amounts_and_sets() -> None:
    assert parse("") == ()
    assert parse("apple=3") == (GenericResource(kind="apple", amount=3),)
    assert parse("gpu=UUID2, gpu=UUID1,apple=3") == (
        GenericResource(kind="apple", amount=3),
        GenericResource(kind="gpu", names=("UUID2", "UUID1")),
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("apple", "is not a generic resource"),
        ("apple=", "is not a generic resource"),
        ("=3", "is not a legal kind"),
        ("apple=3,", "is not a generic resource"),
        ("ap ple=3", "is not a legal kind"),
        ("apple=3\norange=4", "mixed|cannot name"),
        ("apple=-1", "cannot have -1"),
        ("apple=99999999999999999999", "cannot have"),
        ("apple=1,apple=2", "mixed discrete and named"),
        ("gpu=UUID1,gpu=3", "mixed discrete and named"),
        ("gpu=UUID1,gpu=UUID1", "named twice"),
        ("gpu=a\tb", "cannot name a gpu"),
    ],
)
def test_what_is_none_is_told_with_the_flag(text: str, reason: str) -> None:
    with pytest.raises(Invalid, match=reason) as raised:
        parse(text)
    assert raised.value.field == "--generic-node-resources"


KINDS = st.from_regex(r"[a-z][a-z0-9_.-]{0,8}", fullmatch=True)
VALUES = st.one_of(
    st.integers(0, 1 << 40).map(lambda amount: {"amount": amount}),
    st.lists(st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,8}", fullmatch=True), min_size=1, unique=True).map(
        lambda names: {"names": tuple(names)}
    ),
)


@given(st.dictionaries(KINDS, VALUES, max_size=5))
def test_what_is_written_is_read_back(given_resources: dict[str, dict[str, object]]) -> None:
    resources = tuple(
        GenericResource(kind=kind, **value)  # type: ignore[arg-type]
        for kind, value in sorted(given_resources.items())
    )
    assert parse(format_generic_resources(resources)) == resources


def test_a_task_learns_what_it_got_from_its_environment() -> None:
    assert resource_environment(parse("gpu=U1,gpu=U2,apple=3")) == {
        "DOCKER_RESOURCE_GPU": "U1,U2",
        "DOCKER_RESOURCE_APPLE": "3",
    }
