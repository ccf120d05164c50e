"""Frames of subprotocol `swarm.1`: one binary WebSocket message is one CBOR array `[type, stream, ...]`.

Types are append-only, and items after those a reader knows are ignored. See DESIGN.md for the life of a stream and its
credit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Final, NoReturn, TypeAlias

import cbor2
import msgspec

from swarmd.errors import CLASS_OF_KIND, ErrorKind, Internal, Invalid, OutcomeUnknown, SwarmError, Unimplemented
from swarmd.wire.codec import convert, loads
from swarmd.wire.identity import ForwardedCaller

SUBPROTOCOL: Final = "swarm.1"
PROTOCOL_MIN: Final = 1
PROTOCOL_MAX: Final = 1
FRAME_BYTES_MAX: Final = 4 << 20
ANONYMOUS_FRAME_BYTES_MAX: Final = 64 << 10
ANONYMOUS_FRAMES_MAX: Final = 256
"""Frames a peer without a certificate may send in one connection: three calls, some polls."""
ANONYMOUS_STREAMS_MAX: Final = 4
STREAMS_MAX: Final = 1024
STREAM_ID_MAX: Final = (1 << 53) - 1
HANDSHAKE_S_MAX: Final = 10.0
IDLE_PING_S: Final = 15.0
RAFT_IDLE_PING_S: Final = 2.0
"""On connections of class `raft`: on each, one manager only listens, and would not notice that it hears nothing."""
CHUNK_BYTES_MAX: Final = 1 << 20
WINDOW_MESSAGES: Final = 64
WINDOW_BYTES: Final = 8 << 20
CREDIT_MAX: Final = 1 << 40
"""A balance of messages or bytes above this is nonsense."""
ERROR_TEXT_MAX: Final = 4096
"""Characters of an error's message, field, object or hint that travel."""

_BYTES_STAY_BYTES: Final = (bytes,)


class FrameType(IntEnum):
    """The first item of every frame."""

    HELLO = 0
    OPEN = 1
    DATA = 2
    CREDIT = 3
    END = 4
    ERROR = 5
    CANCEL = 6


class ConnectionClass(IntEnum):
    """What a connection is for; bulk data never shares one with Raft. Written by name in HELLO."""

    CONTROL = 0
    RAFT = 1
    BULK = 2


def idle_ping_s(class_: str) -> float:
    """How long a connection of this class may be silent before the peer is asked for a sign of life, and again until
    the connection is given up."""
    return RAFT_IDLE_PING_S if class_ == ConnectionClass.RAFT.name.lower() else IDLE_PING_S


class Hello(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The first frame from each side, on stream 0. The highest protocol both speak wins.

    Always written in full: a later version may have other defaults.
    """

    protocol: tuple[int, int] = (PROTOCOL_MIN, PROTOCOL_MAX)
    class_: str = msgspec.field(default="control", name="class")
    features: tuple[str, ...] = ()
    swarm: str = ""
    node: str = ""
    incarnation: bytes = b""
    version: str = ""
    window: tuple[int, int] = (WINDOW_MESSAGES, WINDOW_BYTES)


class Headers(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What travels beside a request. `key` is the idempotency key of a mutation and `seen_index` the index seen at
    its first try; `forwarded` is set by a follower that passes a call on."""

    key: bytes = b""
    seen_index: int = 0
    stale: bool = False
    forwarded: ForwardedCaller | None = None


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An error on the wire."""

    kind: str
    message: str
    field: str | None = None
    object: str | None = None
    hint: str | None = None
    outcome_unknown: bool = False
    retry_after_s: float = 0.0
    """0: nothing was said."""


NO_HEADERS: Final = Headers()


class HelloFrame(msgspec.Struct, frozen=True, gc=False):
    """`[0, 0, hello]`."""

    hello: Hello


class OpenFrame(msgspec.Struct, frozen=True):
    """`[1, stream, method, deadline_s or null, headers, body or null]`. `deadline_s`: seconds the caller will wait."""

    stream: int
    method: str
    deadline_s: float | None
    headers: Headers
    body: Any


class DataFrame(msgspec.Struct, frozen=True):
    """`[2, stream, body]`."""

    stream: int
    body: Any


class CreditFrame(msgspec.Struct, frozen=True, gc=False):
    """`[3, stream, messages, bytes]`: the reader has room for this much more DATA."""

    stream: int
    messages: int
    bytes: int


class EndFrame(msgspec.Struct, frozen=True, gc=False):
    """`[4, stream]`: the sender says no more on it."""

    stream: int


class ErrorFrame(msgspec.Struct, frozen=True, gc=False):
    """`[5, stream, error]`: the stream failed; on stream 0 the connection did."""

    stream: int
    error: ErrorBody


class CancelFrame(msgspec.Struct, frozen=True, gc=False):
    """`[6, stream]`: the opener no longer wants an answer."""

    stream: int


Frame: TypeAlias = HelloFrame | OpenFrame | DataFrame | CreditFrame | EndFrame | ErrorFrame | CancelFrame


# -- encoding ----------------------------------------------------------------------------------------------------


def encode_frame(frame: Frame) -> bytes:
    """The bytes of one WebSocket message. A body is a Struct or builtins."""
    return cbor2.dumps(msgspec.to_builtins(_items(frame), builtin_types=_BYTES_STAY_BYTES))


def _items(frame: Frame) -> list[Any]:
    match frame:
        case HelloFrame(hello):
            return [FrameType.HELLO, 0, hello]
        case OpenFrame(stream, method, deadline_s, headers, body):
            return [FrameType.OPEN, stream, method, deadline_s, headers, body]
        case DataFrame(stream, body):
            return [FrameType.DATA, stream, body]
        case CreditFrame(stream, messages, count):
            return [FrameType.CREDIT, stream, messages, count]
        case EndFrame(stream):
            return [FrameType.END, stream]
        case ErrorFrame(stream, error):
            return [FrameType.ERROR, stream, error]
        case CancelFrame(stream):
            return [FrameType.CANCEL, stream]


def encode_messages(stream: int, messages: Sequence[bytes]) -> bytes:
    """`DataFrame(stream, {"messages": messages})`, without a walk over the Struct: the hot path of ONE_WAY methods."""
    return cbor2.dumps((2, stream, {"messages": messages}))


# -- decoding ----------------------------------------------------------------------------------------------------


def decode_frame(data: bytes) -> Frame:
    """The frame that `data` holds; bodies stay builtins.

    Raises `Invalid` for anything else, and `Unimplemented` for a type we do not know.
    """
    items = loads(data)
    if type(items) is not list or len(items) < 2:
        _refuse("a frame is an array of at least two items", "$")
    type_, stream = items[0], items[1]
    if type(type_) is not int or type_ < 0:
        _refuse("a frame's type is a number", "$[0]")
    if type(stream) is not int or not 0 <= stream <= STREAM_ID_MAX:
        _refuse("a stream's id is a number from 0 to 2^53 - 1", "$[1]")
    if type_ >= len(_READERS):
        raise Unimplemented(f"frame type {type_} is not known here", field="$[0]")
    length, read = _READERS[type_]
    if len(items) < length:
        _refuse(f"a frame of type {type_} has {length} items, not {len(items)}", "$")
    return read(stream, items)


def _read_hello(stream: int, items: list[Any]) -> Frame:
    if stream != 0:
        _refuse("HELLO belongs on stream 0", "$[1]")
    hello = convert(items[2], Hello)
    if not 0 <= hello.protocol[0] <= hello.protocol[1]:
        _refuse("the protocol range is [min, max]", "$[2].protocol")
    if hello.class_.upper() not in ConnectionClass.__members__ or hello.class_ != hello.class_.lower():
        _refuse("the class is control, raft or bulk", "$[2].class")
    if not all(0 <= part <= CREDIT_MAX for part in hello.window):
        _refuse("the window is out of range", "$[2].window")
    return HelloFrame(hello)


def _read_open(stream: int, items: list[Any]) -> Frame:
    method, deadline_s, headers = items[2], items[3], items[4]
    if stream == 0:
        _refuse("stream 0 carries no calls", "$[1]")
    if type(method) is not str:
        _refuse("a method is named by a string", "$[2]")
    if deadline_s is not None and not (
        type(deadline_s) in (int, float) and math.isfinite(deadline_s) and deadline_s >= 0
    ):
        _refuse("a deadline is a number of seconds or null", "$[3]")
    return OpenFrame(stream, method, deadline_s, convert(headers, Headers) if headers != {} else NO_HEADERS, items[5])


def _read_data(stream: int, items: list[Any]) -> Frame:
    return DataFrame(stream, items[2])


def _read_credit(stream: int, items: list[Any]) -> Frame:
    for position in (2, 3):
        if type(items[position]) is not int or not 0 <= items[position] <= CREDIT_MAX:
            _refuse("credit is a count, not negative", f"$[{position}]")
    return CreditFrame(stream, items[2], items[3])


def _read_end(stream: int, _items: list[Any]) -> Frame:
    return EndFrame(stream)


def _read_error(stream: int, items: list[Any]) -> Frame:
    return ErrorFrame(stream, convert(items[2], ErrorBody))


def _read_cancel(stream: int, _items: list[Any]) -> Frame:
    return CancelFrame(stream)


_READERS: Final = (
    (3, _read_hello),
    (6, _read_open),
    (3, _read_data),
    (4, _read_credit),
    (2, _read_end),
    (3, _read_error),
    (2, _read_cancel),
)
"""By frame type: how many items it has, and what makes them a frame."""


def _refuse(what: str, field: str) -> NoReturn:
    raise Invalid(what, field=field)


# -- errors ------------------------------------------------------------------------------------------------------


def error_body(error: SwarmError) -> ErrorBody:
    """How `error` is told to a peer; overlong texts are cut."""
    return ErrorBody(
        kind=error.kind.value,
        message=error.message[:ERROR_TEXT_MAX],
        field=_cut(error.field),
        object=_cut(error.object),
        hint=_cut(error.hint),
        outcome_unknown=isinstance(error, OutcomeUnknown),
        retry_after_s=error.retry_after_s or 0.0,
    )


def error_from_body(body: ErrorBody) -> SwarmError:
    """The error that a peer told; an unknown kind becomes `Internal`."""
    try:
        class_ = CLASS_OF_KIND[ErrorKind(body.kind)]
    except ValueError:
        class_ = Internal
    if body.outcome_unknown and body.kind == ErrorKind.UNAVAILABLE:
        class_ = OutcomeUnknown
    retry_after_s = body.retry_after_s if 0.0 < body.retry_after_s < math.inf else None
    return class_(body.message, field=body.field, object=body.object, hint=body.hint, retry_after_s=retry_after_s)


def _cut(text: str | None) -> str | None:
    return None if text is None else text[:ERROR_TEXT_MAX]
