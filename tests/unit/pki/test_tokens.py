"""Join tokens: one form, one error kind, constant-time comparison of the whole."""

import contextlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.errors import Invalid
from swarmd.model import JoinTokens, Role
from swarmd.pki import new_token, parse_token, role_of_token, root_digest

DIGEST = root_digest(b"some root")


def test_a_new_token_parses_to_the_digest_it_was_made_for() -> None:
    token = new_token(DIGEST, random.Random(1))
    assert parse_token(token).digest == DIGEST
    assert len(token) == len("SWMTKN-1-") + 50 + 1 + 25


def test_a_secret_carries_128_bits_from_the_given_dice() -> None:
    class Highest(random.Random):
        def getrandbits(self, k: int, /) -> int:
            return (1 << k) - 1

    # 2**128 - 1 in base 36
    assert parse_token(new_token(DIGEST, Highest())).secret == "f5lxx1zz5pnorynqglhzmsp33"
    assert new_token(DIGEST, random.Random(1)) != new_token(DIGEST, random.Random(2))


def test_small_numbers_are_padded_with_zeros() -> None:
    class Zero(random.Random):
        def getrandbits(self, k: int, /) -> int:
            return 7

    assert parse_token(new_token(DIGEST, Zero())).secret == "0" * 24 + "7"


GOOD = new_token(DIGEST, random.Random(3))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        GOOD + "-x",
        GOOD + "\n",
        " " + GOOD,
        GOOD[:-1],
        GOOD.upper(),
        GOOD.replace("SWMTKN-1", "SWMTKN-9"),
        GOOD.replace("SWMTKN-1", "SWMTKN-2-1"),
        GOOD[:-1] + "_",
        GOOD[:-1] + "\uff11",
        "SWMTKN-1-" + "z" * 50 + "-" + "0" * 25,
        "SWMTKN-1-" + "0" * 50 + "-" + "z" * 25,
        "SWMTKN-1-" + "0" * 49 + "-" + "0" * 26,
        "S" * 1_000_000,
    ],
)
def test_a_malformed_token_is_refused_and_never_repeated(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_token(text)
    assert len(refused.value.message) < 200
    assert GOOD[-20:] not in refused.value.message


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=100))
def test_any_text_is_parsed_or_refused_with_one_kind(text: str) -> None:
    with contextlib.suppress(Invalid):
        assert f"SWMTKN-1-{parse_token(text).digest}-{parse_token(text).secret}" == text


def test_the_token_gives_the_role() -> None:
    tokens = JoinTokens(worker=new_token(DIGEST, random.Random(1)), manager=new_token(DIGEST, random.Random(2)))
    assert role_of_token(tokens.worker, tokens) is Role.WORKER
    assert role_of_token(tokens.manager, tokens) is Role.MANAGER
    assert role_of_token(new_token(DIGEST, random.Random(4)), tokens) is None


def test_nothing_matches_a_swarm_without_tokens() -> None:
    assert role_of_token("", JoinTokens()) is None


@pytest.mark.parametrize("text", ["\u00e9", "\ud800", "\uff11" * 30])
def test_tokens_beyond_ascii_are_compared_without_failing(text: str) -> None:
    assert role_of_token(text, JoinTokens(worker="w", manager="m")) is None
