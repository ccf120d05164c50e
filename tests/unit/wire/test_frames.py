"""Frames as bytes."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.errors import CLASS_OF_KIND, Internal, Invalid, OutcomeUnknown, SwarmError, Unavailable, Unimplemented
from swarmd.model import Role
from swarmd.wire.codec import encode
from swarmd.wire.frames import (
    CREDIT_MAX,
    ERROR_TEXT_MAX,
    STREAM_ID_MAX,
    CancelFrame,
    CreditFrame,
    DataFrame,
    EndFrame,
    ErrorBody,
    ErrorFrame,
    Frame,
    Headers,
    Hello,
    HelloFrame,
    OpenFrame,
    decode_frame,
    encode_frame,
    encode_messages,
    error_body,
    error_from_body,
)
from swarmd.wire.identity import ForwardedCaller

STREAMS = st.integers(0, STREAM_ID_MAX)
CALLS = st.integers(1, STREAM_ID_MAX)
BODIES = st.none() | st.dictionaries(st.text(max_size=5), st.binary(max_size=9) | st.integers(0, 99), max_size=3)
TEXTS = st.none() | st.text(max_size=9)
COUNTS = st.integers(0, CREDIT_MAX)

FRAMES: st.SearchStrategy[Frame] = st.one_of(
    st.builds(
        HelloFrame,
        st.builds(
            Hello,
            protocol=st.tuples(st.integers(0, 3), st.integers(3, 9)),
            class_=st.sampled_from(["control", "raft", "bulk"]),
            features=st.lists(st.text(max_size=5), max_size=3).map(tuple),
            swarm=st.text(max_size=5),
            node=st.text(max_size=5),
            incarnation=st.binary(max_size=16),
            version=st.text(max_size=5),
            window=st.tuples(COUNTS, COUNTS),
        ),
    ),
    st.builds(
        OpenFrame,
        CALLS,
        st.text(max_size=20),
        st.none() | st.floats(0, 1e9),
        st.builds(
            Headers,
            key=st.binary(max_size=16),
            seen_index=st.integers(0, 1 << 62),
            stale=st.booleans(),
            forwarded=st.none() | st.builds(ForwardedCaller, node_id=st.text(max_size=5), role=st.sampled_from(Role)),
        ),
        BODIES,
    ),
    st.builds(DataFrame, STREAMS, BODIES),
    st.builds(CreditFrame, STREAMS, COUNTS, COUNTS),
    st.builds(EndFrame, STREAMS),
    st.builds(
        ErrorFrame,
        STREAMS,
        st.builds(
            ErrorBody,
            kind=st.text(max_size=9),
            message=st.text(max_size=9),
            field=TEXTS,
            object=TEXTS,
            hint=TEXTS,
            outcome_unknown=st.booleans(),
        ),
    ),
    st.builds(CancelFrame, STREAMS),
)


@given(FRAMES)
@settings(max_examples=150, deadline=None)
def test_a_frame_comes_back_as_it_was(frame: Frame) -> None:
    assert decode_frame(encode_frame(frame)) == frame


@given(FRAMES, st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_frame_is_a_frame_or_a_typed_error(frame: Frame, data: st.DataObject) -> None:
    encoded = bytearray(encode_frame(frame))
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Invalid, Unimplemented):
        decode_frame(bytes(encoded))


@given(st.lists(st.binary(max_size=300), max_size=30), CALLS)
@settings(max_examples=50, deadline=None)
def test_posted_messages_are_ordinary_data(messages: list[bytes], stream: int) -> None:
    assert encode_messages(stream, messages) == encode_frame(DataFrame(stream, {"messages": messages}))


def test_an_unknown_frame_type_is_a_typed_error() -> None:
    with pytest.raises(Unimplemented, match="type 7"):
        decode_frame(encode([7, 1]))


def test_items_of_a_later_version_are_ignored() -> None:
    assert decode_frame(encode([4, 3, {"why": "later"}])) == EndFrame(3)
    assert decode_frame(encode([2, 3, None, 9])) == DataFrame(3, None)


@pytest.mark.parametrize(
    "items",
    [
        None,
        {},
        [],
        [4],
        ["4", 1],
        [True, 1],
        [-1, 1],
        [4, True],
        [4, "1"],
        [4, -1],
        [4, STREAM_ID_MAX + 1],
        [4, 1.0],
        [0, 1, {}],
        [0, 0, {"protocol": [2, 1]}],
        [0, 0, {"protocol": [-1, 1]}],
        [0, 0, {"class": "fast"}],
        [0, 0, {"class": "RAFT"}],
        [0, 0, {"window": [-1, 5]}],
        [0, 0, {"window": [1, CREDIT_MAX + 1]}],
        [0, 0, []],
        [1, 1, "health", None, {}],
        [1, 0, "health", None, {}, None],
        [1, 1, b"health", None, {}, None],
        [1, 1, "health", -1, {}, None],
        [1, 1, "health", True, {}, None],
        [1, 1, "health", math.inf, {}, None],
        [1, 1, "health", math.nan, {}, None],
        [1, 1, "health", None, [], None],
        [1, 1, "health", None, {"key": "text"}, None],
        [2, 1],
        [3, 1, 1],
        [3, 1, -1, 0],
        [3, 1, 0, True],
        [3, 1, 0, 1.5],
        [3, 1, CREDIT_MAX + 1, 0],
        [5, 1, {}],
        [5, 1, "no"],
    ],
)
def test_what_is_no_frame_is_invalid_with_its_place(items: Any) -> None:
    with pytest.raises(Invalid) as refused:
        decode_frame(encode(items))
    assert refused.value.field is not None


def test_hello_is_written_in_full() -> None:
    """A later version may have other defaults, so none may be left to the reader."""
    assert b"protocol" in encode_frame(HelloFrame(Hello()))
    assert b"window" in encode_frame(HelloFrame(Hello()))


@pytest.mark.parametrize("class_", [*CLASS_OF_KIND.values(), OutcomeUnknown])
def test_an_error_keeps_its_kind_and_texts(class_: type[SwarmError]) -> None:
    told = error_from_body(error_body(class_("m", field="$.f", object="service web", hint="h")))
    assert type(told) is class_
    assert (told.message, told.field, told.object, told.hint) == ("m", "$.f", "service web", "h")


def test_an_unknown_kind_of_error_is_internal() -> None:
    told = error_from_body(ErrorBody(kind="of_tomorrow", message="m"))
    assert type(told) is Internal
    assert told.message == "m"


def test_only_unavailable_can_have_an_unknown_outcome() -> None:
    assert type(error_from_body(ErrorBody(kind="unavailable", message="m", outcome_unknown=True))) is OutcomeUnknown
    assert type(error_from_body(ErrorBody(kind="unavailable", message="m"))) is Unavailable
    assert type(error_from_body(ErrorBody(kind="invalid", message="m", outcome_unknown=True))) is Invalid


def test_long_error_texts_are_cut() -> None:
    body = error_body(Invalid("m" * 99_999, hint="h" * 99_999))
    assert len(body.message) == ERROR_TEXT_MAX
    assert body.hint is not None
    assert len(body.hint) == ERROR_TEXT_MAX
