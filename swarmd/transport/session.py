"""The life of streams in one connection, without I/O: bytes of frames in, events out; intentions in, bytes out.

Rules (DESIGN.md has the diagram): ids are odd for the dialer and even for the listener, rise, and are never reused. The
opener speaks first; the acceptor's END or ERROR, or the opener's CANCEL, ends a stream on both sides. A frame for a
stream that has ended may still be on its way and is ignored; one for a stream that never was is a violation.
Knows no socket and no Trio, so that the blocking client shares it.
"""

from __future__ import annotations

from typing import Any, Final, assert_never

import msgspec

from swarmd.errors import FailedPrecondition, Invalid, ResourceExhausted, SwarmError
from swarmd.transport.events import (
    Cancelled,
    Ended,
    Event,
    Failed,
    Granted,
    Greeted,
    LocalMisuse,
    Opened,
    Received,
)
from swarmd.wire.frames import (
    ANONYMOUS_FRAME_BYTES_MAX,
    ANONYMOUS_FRAMES_MAX,
    ANONYMOUS_STREAMS_MAX,
    CREDIT_MAX,
    FRAME_BYTES_MAX,
    NO_HEADERS,
    STREAM_ID_MAX,
    STREAMS_MAX,
    CancelFrame,
    CreditFrame,
    DataFrame,
    EndFrame,
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
from swarmd.wire.methods import METHODS, Method, Shape


class Limits(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the peer may do in one connection."""

    frame_bytes_max: int = FRAME_BYTES_MAX
    streams_max: int = STREAMS_MAX
    frames_max: int | None = None
    """Frames in all; None: no limit."""


AUTHENTICATED: Final = Limits()
ANONYMOUS: Final = Limits(
    frame_bytes_max=ANONYMOUS_FRAME_BYTES_MAX, streams_max=ANONYMOUS_STREAMS_MAX, frames_max=ANONYMOUS_FRAMES_MAX
)


# -- streams -----------------------------------------------------------------------------------------------------

_OPENER_SENDS: Final = frozenset({Shape.CLIENT_STREAM, Shape.ONE_WAY})
"""Shapes whose opener sends DATA after OPEN; in the others OPEN carries all it has to say."""
_REPLIES_MAX: Final = {Shape.UNARY: 1, Shape.CLIENT_STREAM: 1, Shape.ONE_WAY: 0, Shape.SERVER_STREAM: None}


class _Stream:
    """Who may still say what, and how much."""

    __slots__ = (
        "has_receive_credit",
        "has_send_credit",
        "is_ours",
        "peer_ended",
        "receive_bytes",
        "receive_messages",
        "received",
        "send_bytes",
        "send_messages",
        "sent",
        "shape",
        "unread_bytes",
        "unread_messages",
        "we_ended",
    )

    def __init__(self, shape: Shape, *, is_ours: bool, ours: tuple[int, int], theirs: tuple[int, int]) -> None:
        self.shape = shape
        self.is_ours = is_ours
        self.we_ended = is_ours and shape not in _OPENER_SENDS
        self.peer_ended = not is_ours and shape not in _OPENER_SENDS
        self.has_send_credit = shape is (Shape.CLIENT_STREAM if is_ours else Shape.SERVER_STREAM)
        self.has_receive_credit = shape is (Shape.SERVER_STREAM if is_ours else Shape.CLIENT_STREAM)
        self.send_messages, self.send_bytes = theirs
        self.receive_messages, self.receive_bytes = ours
        self.unread_messages = self.unread_bytes = 0
        self.sent = self.received = 0

    def may_send(self) -> bool:
        # One message may overdraw the bytes: else a window smaller than a frame would never open.
        return not self.has_send_credit or (self.send_messages > 0 and self.send_bytes > 0)

    def replies_max(self, *, from_peer: bool) -> int | None:
        """How many DATA a side may send; None: any number."""
        return _REPLIES_MAX[self.shape] if self.is_ours is from_peer else None


class Session:
    """One connection's streams.

    Args:
        is_dialer: whether we opened the connection.
        hello: what we announce.
        limits: what the peer may do.

    `receive` raises a `SwarmError` when the peer breaks a rule: tell it `connection_error` of that, and close.
    """

    def __init__(self, *, is_dialer: bool, hello: Hello, limits: Limits = AUTHENTICATED) -> None:
        self.hello = hello
        self.peer_hello: Hello | None = None
        self.protocol = 0
        """The version both speak, once greeted."""
        self._limits = limits
        self._is_dialer = is_dialer
        self._next_id = 1 if is_dialer else 2
        self._peer_parity = 0 if is_dialer else 1
        self._peer_last_id = 0
        self._streams: dict[int, _Stream] = {}
        self._peer_streams = 0
        self._frames = 0

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def class_(self) -> str:
        """What the connection is for, as its dialer announced."""
        assert self.peer_hello is not None
        return self.hello.class_ if self._is_dialer else self.peer_hello.class_

    def __contains__(self, stream: int) -> bool:
        return stream in self._streams

    # -- what we say ---------------------------------------------------------------------------------------------

    def greeting(self) -> bytes:
        """Our HELLO, to be sent first."""
        return encode_frame(HelloFrame(self.hello))

    def open(
        self,
        method: Method[Any, Any],
        body: Any = None,
        *,
        deadline_s: float | None = None,
        headers: Headers = NO_HEADERS,
    ) -> tuple[int, bytes]:
        """A new stream and its OPEN. Raises `ResourceExhausted` when the connection has no room for another, `Invalid`
        for a body over the limit."""
        if self.peer_hello is None:
            raise LocalMisuse("OPEN before the peer's HELLO")
        if len(self._streams) - self._peer_streams >= STREAMS_MAX:
            raise ResourceExhausted(f"{STREAMS_MAX} calls are under way on this connection")
        stream = self._next_id
        frame = _sized(encode_frame(OpenFrame(stream, method.name, deadline_s, headers, body)))
        self._next_id += 2
        self._streams[stream] = _Stream(
            method.shape, is_ours=True, ours=self.hello.window, theirs=self.peer_hello.window
        )
        return stream, frame

    def may_send(self, stream: int) -> bool:
        """Whether the peer has room for one more DATA on `stream`."""
        return self._ours(stream).may_send()

    def data(self, stream: int, body: Any) -> bytes:
        """One DATA; takes its credit. Raises `Invalid` for a body over the limit."""
        state = self._sender(stream)
        return self._spend(state, _sized(encode_frame(DataFrame(stream, body))))

    def messages(self, stream: int, messages: list[bytes]) -> bytes:
        """One DATA of a ONE_WAY method, holding these."""
        state = self._sender(stream)
        return self._spend(state, _sized(encode_messages(stream, messages)))

    def end(self, stream: int) -> bytes:
        """Say that we say no more. As acceptor: the stream is over."""
        state = self._sender(stream)
        state.we_ended = True
        if not state.is_ours:
            self._forget(stream)
        return encode_frame(EndFrame(stream))

    def error(self, stream: int, error: SwarmError) -> bytes:
        """Fail a call that the peer made; it is over."""
        if self._ours(stream).is_ours:
            raise LocalMisuse("the opener cancels; only the acceptor fails a stream")
        self._forget(stream)
        return encode_frame(ErrorFrame(stream, error_body(error)))

    def cancel(self, stream: int) -> bytes:
        """Give up a call that we made; it is over."""
        if not self._ours(stream).is_ours:
            raise LocalMisuse("only the opener cancels")
        self._forget(stream)
        return encode_frame(CancelFrame(stream))

    def consumed(self, stream: int, size: int) -> bytes | None:
        """Note that a message of `size` bytes was read. Sometimes gives a CREDIT to send: half a window at a time."""
        state = self._streams.get(stream)
        if state is None or not state.has_receive_credit or state.peer_ended:
            return None
        state.unread_messages += 1
        state.unread_bytes += size
        messages, size_max = self.hello.window
        if 2 * state.unread_messages < messages and 2 * state.unread_bytes < size_max:
            return None
        grant = CreditFrame(stream, state.unread_messages, state.unread_bytes)
        state.receive_messages += grant.messages
        state.receive_bytes += grant.bytes
        state.unread_messages = state.unread_bytes = 0
        return encode_frame(grant)

    @staticmethod
    def connection_error(error: SwarmError) -> bytes:
        """The ERROR that ends the connection."""
        return encode_frame(ErrorFrame(0, error_body(error)))

    def _ours(self, stream: int) -> _Stream:
        try:
            return self._streams[stream]
        except KeyError:
            raise LocalMisuse(f"stream {stream} is over") from None

    def _sender(self, stream: int) -> _Stream:
        state = self._ours(stream)
        if state.we_ended:
            raise LocalMisuse(f"we ended stream {stream}")
        return state

    @staticmethod
    def _spend(state: _Stream, frame: bytes) -> bytes:
        limit = state.replies_max(from_peer=False)
        if not state.may_send() or (limit is not None and state.sent >= limit):
            raise LocalMisuse("DATA without credit, or beyond the method's shape")
        state.sent += 1
        if state.has_send_credit:
            state.send_messages -= 1
            state.send_bytes -= len(frame)
        return frame

    def _forget(self, stream: int) -> None:
        if not self._streams.pop(stream).is_ours:
            self._peer_streams -= 1

    # -- what the peer says --------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> Event | None:
        """Take one frame. None: nothing to do (it was for a stream that is over).

        Raises `Invalid`, `ResourceExhausted`, `Unimplemented` or `FailedPrecondition` when the peer broke a rule.
        """
        if len(data) > self._limits.frame_bytes_max:
            raise ResourceExhausted(
                f"a frame of {len(data)} bytes; the limit for this peer is {self._limits.frame_bytes_max}"
            )
        self._frames += 1
        if self._limits.frames_max is not None and self._frames > self._limits.frames_max:
            raise ResourceExhausted(f"more than {self._limits.frames_max} frames without a certificate")
        frame = decode_frame(data)
        if self.peer_hello is None and not isinstance(frame, HelloFrame | ErrorFrame):
            raise Invalid("the first frame must be HELLO")
        return self._dispatch(frame, len(data))

    def _dispatch(self, frame: Frame, size: int) -> Event | None:
        match frame:
            case DataFrame():
                return self._receive_data(frame, size)
            case OpenFrame():
                return self._receive_open(frame)
            case CreditFrame():
                return self._receive_credit(frame)
            case EndFrame(stream):
                return self._receive_end(stream)
            case ErrorFrame():
                return self._receive_error(frame)
            case CancelFrame(stream):
                return self._receive_cancel(stream)
            case HelloFrame(hello):
                return self._receive_hello(hello)
            case _:
                assert_never(frame)

    def _receive_hello(self, hello: Hello) -> Event:
        if self.peer_hello is not None:
            raise Invalid("HELLO comes once")
        low = max(self.hello.protocol[0], hello.protocol[0])
        high = min(self.hello.protocol[1], hello.protocol[1])
        if low > high:
            raise FailedPrecondition(
                f"no common protocol: this node speaks {_range(self.hello)}, the peer {_range(hello)}",
                hint="upgrade the older of the two nodes",
            )
        self.protocol = high
        self.peer_hello = hello
        return Greeted(hello)

    def _receive_open(self, frame: OpenFrame) -> Event:
        stream = frame.stream
        if stream % 2 != self._peer_parity:
            raise Invalid(f"stream {stream} is not the peer's to open")
        if stream <= self._peer_last_id:
            raise Invalid(f"stream {stream} was used before")
        if self._peer_streams >= self._limits.streams_max:
            raise ResourceExhausted(f"more than {self._limits.streams_max} streams on one connection")
        assert self.peer_hello is not None
        self._peer_last_id = stream
        self._peer_streams += 1
        method = METHODS.get(frame.method)
        self._streams[stream] = _Stream(
            method.shape if method is not None else Shape.UNARY,
            is_ours=False,
            ours=self.hello.window,
            theirs=self.peer_hello.window,
        )
        return Opened(stream, frame.method, method, frame.deadline_s, frame.headers, frame.body)

    def _receive_data(self, frame: DataFrame, size: int) -> Event | None:
        state = self._speaking(frame.stream, "DATA")
        if state is None:
            return None
        limit = state.replies_max(from_peer=True)
        if limit is not None and state.received >= limit:
            raise Invalid(f"DATA on stream {frame.stream} beyond the method's shape")
        state.received += 1
        if state.has_receive_credit:
            if state.receive_messages <= 0 or state.receive_bytes <= 0:
                raise ResourceExhausted(f"DATA on stream {frame.stream} without credit")
            state.receive_messages -= 1
            state.receive_bytes -= size
        return Received(frame.stream, frame.body, size)

    def _receive_end(self, stream: int) -> Event | None:
        state = self._speaking(stream, "END")
        if state is None:
            return None
        state.peer_ended = True
        if state.is_ours:
            self._forget(stream)
        return Ended(stream)

    def _receive_credit(self, frame: CreditFrame) -> Event | None:
        state = self._known(frame.stream, "CREDIT")
        if state is None:
            return None
        if not state.has_send_credit:
            raise Invalid(f"CREDIT on stream {frame.stream}, which has none")
        state.send_messages += frame.messages
        state.send_bytes += frame.bytes
        if state.send_messages > CREDIT_MAX or state.send_bytes > CREDIT_MAX:
            raise Invalid(f"too much CREDIT on stream {frame.stream}")
        return Granted(frame.stream)

    def _receive_error(self, frame: ErrorFrame) -> Event | None:
        error = error_from_body(frame.error)
        if frame.stream == 0:
            return Failed(0, error)
        state = self._known(frame.stream, "ERROR")
        if state is None:
            return None
        if not state.is_ours:
            raise Invalid(f"ERROR on stream {frame.stream} from its opener")
        self._forget(frame.stream)
        return Failed(frame.stream, error)

    def _receive_cancel(self, stream: int) -> Event | None:
        state = self._known(stream, "CANCEL")
        if state is None:
            return None
        if state.is_ours:
            raise Invalid(f"CANCEL on stream {stream} from its acceptor")
        self._forget(stream)
        return Cancelled(stream)

    def _known(self, stream: int, what: str) -> _Stream | None:
        """The stream; None if it is over. Raises `Invalid` if it never was, or before HELLO."""
        state = self._streams.get(stream)
        if state is not None:
            return state
        last = self._peer_last_id if stream % 2 == self._peer_parity else self._next_id - 2
        if self.peer_hello is None or not 0 < stream <= min(last, STREAM_ID_MAX):
            raise Invalid(f"{what} on stream {stream}, which was never opened")
        return None

    def _speaking(self, stream: int, what: str) -> _Stream | None:
        state = self._known(stream, what)
        if state is not None and state.peer_ended:
            raise Invalid(f"{what} on stream {stream} after the peer's last word")
        return state


def _sized(frame: bytes) -> bytes:
    if len(frame) > FRAME_BYTES_MAX:
        raise Invalid(
            f"a message of {len(frame)} bytes; a frame has at most {FRAME_BYTES_MAX}", hint="send it in chunks"
        )
    return frame


def _range(hello: Hello) -> str:
    low, high = hello.protocol
    return f"{low}" if low == high else f"{low} to {high}"
