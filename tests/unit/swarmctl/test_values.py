from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmctl.render.text import duration
from swarmctl.values import (
    parse_condition,
    parse_cpus,
    parse_duration,
    parse_integer,
    parse_memory,
    parse_pairs,
    parse_signal,
)
from swarmd.errors import Invalid
from swarmd.model import RestartCondition


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("1m30s", 90), ("500ms", 0.5), ("2h", 7200), ("10", 10), ("1.5", 1.5), ("0s", 0), ("1d", 86400)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text, "--x") == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-1s", "1 s", "1s1", "1x", "1e3", "nan", "inf", "1.s", "9" * 70])
def test_malformed_durations(text: str) -> None:
    with pytest.raises(Invalid, match="--x") as caught:
        parse_duration(text, "--x")
    assert caught.value.hint


@settings(deadline=None, max_examples=100)
@given(st.integers(min_value=0, max_value=10**7))
def test_durations_as_printed_are_read_back(seconds: int) -> None:
    assert parse_duration(duration(seconds), "--x") == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("512m", 512 << 20), ("1.5g", 3 << 29), ("1048576", 1 << 20), ("4MiB", 4 << 20), ("1 kB", 1024), ("0", 0),
     ("1t", 1 << 40), ("1P", 1 << 50)],
)  # fmt: skip
def test_memory(text: str, size: int) -> None:
    assert parse_memory(text, "--x") == size


@pytest.mark.parametrize("text", ["", "m", "-1m", "1x", "1mm", "1,5g"])
def test_malformed_memory(text: str) -> None:
    with pytest.raises(Invalid):
        parse_memory(text, "--x")


@pytest.mark.parametrize(
    ("text", "nano"),
    [("0.5", 5 * 10**8), ("2", 2 * 10**9), ("1/4", 25 * 10**7), ("0.000000001", 1), ("1/3", 333_333_333)],
)
def test_cpus(text: str, nano: int) -> None:
    assert parse_cpus(text, "--x") == nano


@pytest.mark.parametrize("text", ["", "-1", "x", "1/0", "1/", "/2", "0.0000000001", "1e2", "٣"])
def test_malformed_cpus(text: str) -> None:
    with pytest.raises(Invalid):
        parse_cpus(text, "--x")


def test_pairs_are_trimmed_and_never_split_at_commas() -> None:
    assert parse_pairs([" a = b,c=d ", "e="], "--x") == {"a": "b,c=d", "e": ""}
    for text in ("a", "=b", " =b"):
        with pytest.raises(Invalid):
            parse_pairs([text], "--x")


def test_words() -> None:
    assert parse_condition("on-failure", "--x") is parse_condition("Failure", "--x") is RestartCondition.ON_FAILURE
    assert parse_condition("none", "--x") is RestartCondition.NONE
    with pytest.raises(Invalid):
        parse_condition("sometimes", "--x")
    assert [parse_signal(text) for text in ("int", "SIGTERM", "")] == ["SIGINT", "SIGTERM", ""]


def test_integers_may_be_negative_so_that_the_manager_says_what_is_wrong() -> None:
    assert parse_integer("-3", "--x") == -3
    for text in ("", "1.5", "x", "1_000", "9" * 40):
        with pytest.raises(Invalid):
            parse_integer(text, "--x")
