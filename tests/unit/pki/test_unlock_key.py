"""The unlock key: shown and read, compared, and what it wraps."""

from __future__ import annotations

import base64
import os

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmd.errors import Invalid
from swarmd.model import UnlockKey
from swarmd.pki.unlock_key import (
    PREFIX,
    KekChange,
    Owner,
    Wrapped,
    Wraps,
    WrongUnlockKey,
    compare,
    fits,
    parse_unlock_key,
    show_unlock_key,
    unwrap,
    wrap,
)

KEY = bytes(range(32))
KEK = UnlockKey(version=3, key=KEY)
OWNER = Owner("swarm", "node")


# -- how it is shown -----------------------------------------------------------------------------------------------


@given(st.binary(min_size=32, max_size=32))
def test_what_is_shown_is_read(key: bytes) -> None:
    shown = show_unlock_key(key)
    assert shown.startswith("SWMKEY-1-")
    assert "=" not in shown
    assert parse_unlock_key(shown) == key


def test_no_key_is_shown_as_nothing_and_no_other_length_at_all() -> None:
    assert show_unlock_key(b"") == ""
    with pytest.raises(ValueError, match="32 bytes"):
        show_unlock_key(b"short")


@given(st.binary(min_size=32, max_size=32), st.integers(9, 56), st.sampled_from("ABCDabcd0123+/"))
def test_a_single_typing_error_is_called_one(key: bytes, place: int, typed: str) -> None:
    shown = show_unlock_key(key)
    wrong = shown[:place] + typed + shown[place + 1 :]
    if wrong != shown:
        with pytest.raises(Invalid, match="typing error"):
            parse_unlock_key(wrong)


SHOWN = show_unlock_key(KEY)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("SWMKEY-2-" + SHOWN[9:], "begins with SWMKEY-1-"),
        (SHOWN.lower(), "begins with"),
        (" " + SHOWN, "begins with"),
        (SHOWN + "\n", "57 characters; this one has 58"),
        (SHOWN[:-1], "57 characters; this one has 56"),
        (PREFIX + base64.b64encode(KEY).decode().rstrip("="), "57 characters; this one has 52"),
        (PREFIX + "A" * 1_000_000, "characters; this one has 1000009"),
        (SHOWN[:-1] + "=", "letters, digits"),
        (SHOWN[:-1] + "_", "letters, digits"),
        (SHOWN[:-1] + "\uff15", "letters, digits"),
    ],
)
def test_each_way_of_not_being_a_key_has_its_own_reason_that_repeats_nothing(text: str, reason: str) -> None:
    with pytest.raises(Invalid, match=reason) as caught:
        parse_unlock_key(text)
    assert not isinstance(caught.value, WrongUnlockKey)
    assert len(text) < 20 or text[10:40] not in str(caught.value)


# -- what a change asks for ----------------------------------------------------------------------------------------

OTHER = b"o" * 32


@pytest.mark.parametrize(
    ("current", "wanted", "change"),
    [
        (UnlockKey(), UnlockKey(), KekChange.NOTHING),
        (UnlockKey(), UnlockKey(version=1, key=KEY), KekChange.SEAL),
        (UnlockKey(version=2), UnlockKey(version=3, key=KEY), KekChange.SEAL),
        (UnlockKey(version=1, key=KEY), UnlockKey(version=1, key=KEY), KekChange.NOTHING),
        (UnlockKey(version=1, key=KEY), UnlockKey(version=1, key=OTHER), KekChange.CONFLICT),
        (UnlockKey(version=1, key=KEY), UnlockKey(version=1), KekChange.CONFLICT),
        (UnlockKey(version=1), UnlockKey(version=1, key=KEY), KekChange.CONFLICT),
        (UnlockKey(version=1, key=KEY), UnlockKey(version=2, key=OTHER), KekChange.REWRAP),
        (UnlockKey(version=1, key=KEY), UnlockKey(version=2, key=KEY), KekChange.NOTHING),
        (UnlockKey(version=1, key=KEY), UnlockKey(version=2), KekChange.UNSEAL),
        (UnlockKey(version=2, key=KEY), UnlockKey(version=1, key=OTHER), KekChange.NOTHING),
        (UnlockKey(version=2, key=KEY), UnlockKey(version=1), KekChange.NOTHING),
        (UnlockKey(version=2), UnlockKey(version=1, key=KEY), KekChange.NOTHING),
        (UnlockKey(version=1), UnlockKey(version=2), KekChange.NOTHING),
    ],
)
def test_the_truth_table_of_two_unlock_keys(current: UnlockKey, wanted: UnlockKey, change: KekChange) -> None:
    assert compare(current, wanted) is change


# -- wrapping ------------------------------------------------------------------------------------------------------


def wrapped(plain: bytes = b"plain", what: Wraps = Wraps.NODE_KEY) -> Wrapped:
    return wrap(plain, what, OWNER, KEK, os.urandom)


@given(st.binary(max_size=5000), st.sampled_from(Wraps))
def test_what_is_wrapped_comes_back(plain: bytes, what: Wraps) -> None:
    blob = wrapped(plain, what)
    assert fits(blob, KEY, what)
    assert unwrap(blob, what, OWNER, KEY) == plain


def test_two_wrappings_of_the_same_have_nothing_in_common() -> None:
    one, other = wrapped(), wrapped()
    for field in ("salt", "nonce", "check", "sealed"):
        assert getattr(one, field) != getattr(other, field)


@given(st.binary(min_size=32, max_size=32).filter(lambda key: key != KEY))
def test_a_wrong_key_is_told_from_damage(key: bytes) -> None:
    with pytest.raises(WrongUnlockKey):
        unwrap(wrapped(), Wraps.NODE_KEY, OWNER, key)


@given(st.integers(0, 20), st.integers(1, 255))
def test_a_changed_byte_under_the_right_key_is_damage(place: int, change: int) -> None:
    blob = wrapped()
    sealed = bytearray(blob.sealed)
    sealed[place] ^= change
    with pytest.raises(Invalid, match="damaged") as caught:
        unwrap(msgspec.structs.replace(blob, sealed=bytes(sealed)), Wraps.NODE_KEY, OWNER, KEY)
    assert type(caught.value) is Invalid


def test_it_is_bound_to_what_it_is_whose_it_is_and_the_keys_version() -> None:
    blob = wrapped()
    with pytest.raises(WrongUnlockKey):  # another label is another key altogether
        unwrap(blob, Wraps.DATA_KEYS, OWNER, KEY)
    for owner in (Owner("swarm", "other"), Owner("other", "node")):
        with pytest.raises(Invalid, match="damaged"):
            unwrap(blob, Wraps.NODE_KEY, owner, KEY)
    with pytest.raises(Invalid, match="damaged"):
        unwrap(msgspec.structs.replace(blob, kek_version=4), Wraps.NODE_KEY, OWNER, KEY)


def test_a_nonce_of_no_length_is_damage_and_no_traceback() -> None:
    with pytest.raises(Invalid, match="damaged"):
        unwrap(msgspec.structs.replace(wrapped(), nonce=b""), Wraps.NODE_KEY, OWNER, KEY)
