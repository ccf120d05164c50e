"""One WebSocket that carries frames: the only file that knows trio-websocket.

A `Link` owns the nursery in which trio-websocket reads, so that whatever that library raises about a broken or hostile
peer ends here, as `LinkLost`, and reaches nobody else.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
    wrap_server_stream,
)
from wsproto.frame_protocol import FrameProtocol
from wsproto.utilities import ProtocolError

from swarmd.transport.tls import TlsStream
from swarmd.wire.frames import SUBPROTOCOL

log = logging.getLogger(__name__)

RECEIVE_BYTES: Final = 64 << 10
QUEUE_MESSAGES: Final = 4
"""Received frames that may wait for the session; it takes them at once, so few are enough."""
NOISE_FACTOR: Final = 8
"""A peer may send this many times the frame limit before we see a frame (endless empty fragments, pings). More than
`QUEUE_MESSAGES` + 2, what honest traffic can pile up."""
GOODBYE_S_MAX: Final = 1.0
REASON_BYTES_MAX: Final = 120
"""A close frame holds 123 (RFC 6455 section 5.5)."""

CLOSE_NORMAL: Final = 1000
CLOSE_PROTOCOL_ERROR: Final = 1002
CLOSE_POLICY: Final = 1008
CLOSE_TOO_BIG: Final = 1009


class LinkLost(Exception):
    """The WebSocket is gone. Its text says how, as far as is known."""


class WatchedStream(trio.abc.Stream):
    """`inner`, seen through: that it ended, and how much came, which trio-websocket does not tell. All of one
    `send_all` leaves in one piece, whoever else sends, because `TlsStream` takes it in before it waits."""

    def __init__(self, inner: trio.abc.Stream, *, noise_bytes_max: int) -> None:
        self._inner = inner
        self._turns = trio.Lock()
        self._is_broken = False
        self._noise_bytes_max = noise_bytes_max
        self.bytes_since_frame = 0
        self.received_at = trio.current_time()
        self.ended = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if isinstance(self._inner, TlsStream):
            await self._inner.send_all(data)
            return
        async with self._turns:
            if self._is_broken:
                raise trio.BrokenResourceError("an earlier send was cut off")
            self._is_broken = True  # unless all of it leaves, what follows would land in the middle of a frame
            await self._inner.send_all(data)
            self._is_broken = False

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    @property
    def can_send_now(self) -> bool:
        """Whether `send_now` may be called: nobody is sending, nothing waits, and below is a TLS socket."""
        return isinstance(self._inner, TlsStream) and self._inner.can_send_now

    def send_now(self, data: bytes | bytearray) -> bool:
        """Send without waiting; False if a part is left for `flush`. Raises `trio.BrokenResourceError`."""
        assert isinstance(self._inner, TlsStream)
        return self._inner.send_now(data)

    async def flush(self) -> None:
        """Send what `send_now` left."""
        if isinstance(self._inner, TlsStream):
            await self._inner.flush()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        try:
            data = await self._inner.receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.ended.set()
            raise
        self.received_at = trio.current_time()
        self.bytes_since_frame += len(data)
        if not data or self.bytes_since_frame > self._noise_bytes_max:
            self.ended.set()
            return b""
        return data

    async def aclose(self) -> None:
        self.ended.set()
        await self._inner.aclose()


class Link:
    """A WebSocket over `stream`. `run` it in a nursery; then `send`, `receive`, `ping`, `close`."""

    def __init__(self, stream: trio.abc.Stream, *, is_dialer: bool, frame_bytes_max: int) -> None:
        self._stream = WatchedStream(stream, noise_bytes_max=NOISE_FACTOR * frame_bytes_max)
        self._is_dialer = is_dialer
        self._frame_bytes_max = frame_bytes_max
        # Data frames are put into bytes here: trio-websocket's `send_message` takes a lock and a turn of the loop for
        # each, and its control frames (pong, close) may stand between any two of ours.
        self._frames = FrameProtocol(client=is_dialer, extensions=[])
        self._socket: WebSocketConnection | None = None
        self._over = trio.Event()
        self.loss = "the connection was lost"
        """Why the link is down, once it is."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve the WebSocket until it closes, then close the stream. Starts when the upgrade is done.

        Raises `LinkLost` if it never is.
        """
        try:
            async with trio.open_nursery() as nursery:
                await self._upgrade(nursery)
                if self._socket is not None:
                    task_status.started()
                else:
                    nursery.cancel_scope.cancel()
        except* (HandshakeError, ConnectionClosed, ProtocolError, trio.BrokenResourceError, OSError) as group:
            self.loss = _describe(group)
        finally:
            self._over.set()
            await trio.aclose_forcefully(self._stream)
        if self._socket is None:
            raise LinkLost(self.loss)

    async def _upgrade(self, nursery: trio.Nursery) -> None:
        """Get the WebSocket, unless the peer goes away or talks something else: trio-websocket would wait for ever."""
        wrap = self._dial if self._is_dialer else self._accept
        async with trio.open_nursery() as racing:

            async def watch() -> None:
                await self._stream.ended.wait()
                self.loss = "the peer closed the connection, or spoke something else"
                racing.cancel_scope.cancel()

            racing.start_soon(watch)
            self._socket = await wrap(nursery)
            racing.cancel_scope.cancel()

    async def _dial(self, nursery: trio.Nursery) -> WebSocketConnection:
        stream: Any = self._stream  # any stream does; the annotation there is narrower
        socket = await wrap_client_stream(
            nursery,
            stream,
            "swarm",
            "/",
            subprotocols=[SUBPROTOCOL],
            message_queue_size=QUEUE_MESSAGES,
            max_message_size=self._frame_bytes_max,
            receive_buffer_size=RECEIVE_BYTES,
        )
        if socket.subprotocol != SUBPROTOCOL:
            raise ProtocolError(f"the peer does not speak {SUBPROTOCOL}")
        return socket

    async def _accept(self, nursery: trio.Nursery) -> WebSocketConnection:
        request = await wrap_server_stream(
            nursery,
            self._stream,
            message_queue_size=QUEUE_MESSAGES,
            max_message_size=self._frame_bytes_max,
            receive_buffer_size=RECEIVE_BYTES,
        )
        if SUBPROTOCOL not in request.proposed_subprotocols:
            await request.reject(400, body=f"this is {SUBPROTOCOL}\n".encode())
            raise ProtocolError(f"the peer does not ask for {SUBPROTOCOL}")
        return await request.accept(subprotocol=SUBPROTOCOL)

    @property
    def idle_s(self) -> float:
        """Seconds since anything came from the peer."""
        return trio.current_time() - self._stream.received_at

    async def receive(self) -> bytes:
        """The next frame. Raises `LinkLost`."""
        try:
            message = await self._open().get_message()
        except ConnectionClosed as error:
            raise self._lost(error) from None
        if isinstance(message, str):
            self.loss = "the peer sent text"
            raise LinkLost(self.loss)
        self._stream.bytes_since_frame = 0
        return message

    async def send(self, frames: Sequence[bytes]) -> None:
        """Send these in one packet. Raises `LinkLost`; `Cancelled` leaves the link unusable."""
        self._check_sendable()
        try:
            await self._stream.send_all(self._encode(frames))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise LinkLost(self.loss) from None

    @property
    def can_send_now(self) -> bool:
        """Whether `send_now` may be called."""
        return self._socket is not None and self._socket.closed is None and self._stream.can_send_now

    def send_now(self, frames: Sequence[bytes]) -> bool:
        """Send these without waiting; False if a part is left for `flush`. Raises `LinkLost`."""
        self._check_sendable()
        try:
            return self._stream.send_now(self._encode(frames))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise LinkLost(self.loss) from None

    async def flush(self) -> None:
        """Send what `send_now` left. Raises `LinkLost`."""
        try:
            await self._stream.flush()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise LinkLost(self.loss) from None

    def _encode(self, frames: Sequence[bytes]) -> bytes | bytearray:
        if len(frames) == 1:
            return self._frames.send_data(frames[0])
        return b"".join([self._frames.send_data(frame) for frame in frames])

    def _check_sendable(self) -> None:
        if self._open().closed is not None:
            raise LinkLost(self.loss)

    async def ping(self) -> None:
        """Return once the peer has answered. Raises `LinkLost`."""
        try:
            await self._open().ping()
        except ConnectionClosed as error:
            raise self._lost(error) from None
        except ProtocolError:
            raise LinkLost(self.loss) from None

    async def close(self, code: int, reason: str) -> None:
        """Say goodbye, for at most a second even when cancelled, and close. Waits for no answer once nobody reads."""
        if self._socket is not None:
            with trio.move_on_after(GOODBYE_S_MAX, shield=True):
                async with trio.open_nursery() as racing:
                    racing.start_soon(self._cancel_when_over, racing.cancel_scope)
                    await self._say_goodbye(self._socket, code, reason)
                    racing.cancel_scope.cancel()
        await trio.aclose_forcefully(self._stream)

    async def _cancel_when_over(self, scope: trio.CancelScope) -> None:
        await self._over.wait()
        scope.cancel()

    @staticmethod
    async def _say_goodbye(socket: WebSocketConnection, code: int, reason: str) -> None:
        try:
            await socket.aclose(code, reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore"))
        except (ProtocolError, trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError) as error:
            log.debug("goodbye not said: %s", error)

    def _open(self) -> WebSocketConnection:
        if self._socket is None:
            raise LinkLost(self.loss)
        return self._socket

    def _lost(self, error: ConnectionClosed) -> LinkLost:
        reason = error.reason
        if self._stream.bytes_since_frame > NOISE_FACTOR * self._frame_bytes_max:
            self.loss = "the peer sends without completing a frame"
        elif reason is not None and reason.code == CLOSE_TOO_BIG:
            self.loss = f"a frame was over the limit of {self._frame_bytes_max} bytes"
        elif reason is not None and reason.reason:
            self.loss = f"closed: {reason.reason}"
        elif reason is not None and reason.code == CLOSE_NORMAL:
            self.loss = "the peer closed the connection"
        return LinkLost(self.loss)


def _describe(group: BaseExceptionGroup[BaseException]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, ConnectionRejected):
        return f"the peer refused the WebSocket (HTTP {error.status_code})"
    return str(error) or type(error).__name__
