"""Structs to CBOR and back, and what is refused on the way."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cbor2
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.errors import Invalid
from swarmd.wire.ca import IssueRequest, RootReply
from swarmd.wire.codec import NESTING_MAX, convert, convert_plain, decode, encode, head, integer, loads, text
from swarmd.wire.dispatch import UpdateStatusRequest

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 64), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
@settings(max_examples=80, deadline=None)
def test_what_is_encoded_comes_back(value: Any) -> None:
    assert loads(encode(value)) == value


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_either_plain_data_or_invalid(data: bytes) -> None:
    with contextlib.suppress(Invalid):
        loads(data)


@given(PLAIN, st.data())
@settings(max_examples=80, deadline=None)
def test_a_flipped_byte_never_escapes_as_another_error(value: Any, data: st.DataObject) -> None:
    encoded = bytearray(encode(value))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(Invalid):
        decode(bytes(encoded), UpdateStatusRequest)


@pytest.mark.parametrize("length", [0, 1, 7])
def test_truncated_bytes_are_invalid(length: int) -> None:
    with pytest.raises(Invalid):
        loads(encode({"certificate": b"abc"})[:length])


def test_bytes_after_the_item_are_refused() -> None:
    with pytest.raises(Invalid, match="1 bytes follow"):
        loads(encode([1]) + b"\x00")


def test_nesting_is_limited() -> None:
    assert loads(b"\x81" * NESTING_MAX + b"\x01")
    for depth in (NESTING_MAX + 1, 10_000, 1_000_000):
        with pytest.raises(Invalid, match="depth"):
            loads(b"\x81" * depth + b"\x01")


def test_duplicate_keys_are_refused() -> None:
    with pytest.raises(Invalid, match="Duplicate"):
        loads(bytes.fromhex("a2616101616102"))


@pytest.mark.parametrize("data", ["9f01ff", "bf616101ff", "5f4161ff", "7f6161ff"])
def test_indefinite_lengths_are_refused(data: str) -> None:
    with pytest.raises(Invalid, match="indefinite"):
        loads(bytes.fromhex(data))


@pytest.mark.parametrize("key", ["01", "f6", "80", "fb3ff8000000000000"])
def test_keys_that_are_not_strings_are_refused(key: str) -> None:
    with pytest.raises(Invalid):
        loads(bytes.fromhex("a1" + key + "00"))


def _tag(number: int) -> bytes:
    head = cbor2.dumps(number)
    return bytes((head[0] | 0xC0,)) + head[1:]


def test_every_tag_is_refused_whatever_it_holds() -> None:
    for tag in (*range(262), 1004, 1040, 43000, 43001, 55799, 55800, 2**32, 2**64 - 1):
        for content in (b"\x01", b"\x61a", b"\x41a", b"\x81\x00"):
            with pytest.raises(Invalid, match="tags are not part"):
                loads(_tag(tag) + content)


@pytest.mark.parametrize(
    "data", ["5bffffffffffffffff", "9bffffffffffffffff", "bbffffffffffffffff", "7b4000000000000000"]
)
def test_huge_announced_lengths_fail_without_memory(data: str) -> None:
    with pytest.raises(Invalid):
        loads(bytes.fromhex(data))


def test_a_wrong_field_is_named_by_its_path() -> None:
    body = {"session_id": "s", "updates": [{"task_id": "t", "status": {"state": "running"}}]}
    with pytest.raises(Invalid, match="Expected `int`") as refused:
        decode(encode(body), UpdateStatusRequest)
    assert refused.value.field == "$.updates[0].status.state"


def test_a_missing_field_is_named_at_its_place() -> None:
    with pytest.raises(Invalid, match="certificate") as refused:
        decode(encode({}), RootReply)
    assert refused.value.field == "$"


def test_bytes_stay_bytes_and_text_is_no_bytes() -> None:
    reply = RootReply(certificate=b"\x00\xff")
    assert loads(encode(reply)) == {"certificate": b"\x00\xff"}
    assert decode(encode(reply), RootReply) == reply
    with pytest.raises(Invalid, match=r"\$\.certificate"):
        decode(encode({"certificate": "YWI="}), RootReply)


def test_envelopes_ignore_what_a_newer_peer_adds() -> None:
    assert convert({"csr": b"c", "of_tomorrow": 1}, IssueRequest) == IssueRequest(csr=b"c")


@pytest.mark.parametrize("data", ["f7", "f0", "f820"])
def test_values_without_a_meaning_are_no_field(data: str) -> None:
    with pytest.raises(Invalid):
        decode(b"\xa1\x63csr" + bytes.fromhex(data), IssueRequest)


def test_memory_views_are_read_too() -> None:
    assert loads(memoryview(encode([1, b"x"]))) == [1, b"x"]


def test_an_error_quotes_little_of_the_input() -> None:
    class Small(msgspec.Struct):
        kind: int

    with pytest.raises(Invalid) as refused:
        convert({"kind": "x" * 100_000}, Small)
    assert len(refused.value.message) < 400


@given(st.integers(-(1 << 64), (1 << 64) - 1), st.text(max_size=300))
@settings(max_examples=150, deadline=None)
def test_items_made_by_hand_are_those_of_the_encoder(number: int, words: str) -> None:
    assert integer(number) == cbor2.dumps(number)
    assert text(words) == cbor2.dumps(words)


@pytest.mark.parametrize("size", [0, 23, 24, 255, 256, 65_535, 65_536, (1 << 32) - 1, 1 << 32, (1 << 64) - 1])
def test_heads_have_the_shortest_form(size: int) -> None:
    assert integer(size) == cbor2.dumps(size)
    assert integer(-1 - size) == cbor2.dumps(-1 - size)
    if size <= 65_536:
        assert head(0x40, size) + bytes(size) == cbor2.dumps(bytes(size))
        assert text("x" * size) == cbor2.dumps("x" * size)


def test_text_that_is_no_unicode_is_not_encoded() -> None:
    with pytest.raises(UnicodeEncodeError):
        text("\ud800")


BAD = [b"", b"\x82\x01", b"\x01\x01", b"\xc0\x61a", b"\xa2\x61a\x01\x61a\x02", b"\x9f\xff", b"\x81" * 20, b"\x61\xff"]


@given(st.lists(st.sampled_from([*BAD, None]), max_size=8), PLAIN)
@settings(max_examples=80, deadline=None)
def test_a_refusal_has_no_effect_on_what_is_read_next(before: list[bytes | None], value: Any) -> None:
    for bad in before:
        if bad is None:
            assert loads(encode([value])) == [value]
        else:
            with pytest.raises(Invalid):
                loads(bad)
    assert loads(encode(value)) == value


def test_many_threads_may_read_at_once() -> None:
    data, expected = encode([{"a": [1, 2, b"x" * 100]}] * 50), [{"a": [1, 2, b"x" * 100]}] * 50
    with ThreadPoolExecutor(4) as pool:
        assert all(loaded == expected for loaded in pool.map(lambda _: loads(data), range(200)))


def test_plain_conversion_names_the_wrong_field_as_well() -> None:
    class Small(msgspec.Struct):
        kind: int

    assert convert_plain({"kind": 1}, Small).kind == 1
    with pytest.raises(Invalid) as refused:
        convert_plain({"kind": "x"}, Small)
    assert refused.value.field == "$.kind"
