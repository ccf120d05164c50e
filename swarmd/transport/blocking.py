"""A small blocking client for the control socket, free of Trio so that `swarmctl` starts fast (wsproto + socket)."""

from __future__ import annotations

import errno
import math
import socket
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    RejectConnection,
    RejectData,
    Request,
)
from wsproto.utilities import ProtocolError

from swarmd.errors import DeadlineExceeded, Internal, OutcomeUnknown, SwarmError, Unavailable
from swarmd.transport import events
from swarmd.transport.session import Session
from swarmd.wire.codec import convert
from swarmd.wire.frames import FRAME_BYTES_MAX, NO_HEADERS, SUBPROTOCOL, Headers, Hello
from swarmd.wire.methods import Method, Shape

Req = TypeVar("Req")
Resp = TypeVar("Resp")

RECEIVE_BYTES: Final = 64 << 10

_WHY_NOT: Final = {
    errno.ENOENT: ("there is no socket at {path}", "is swarmd running? Name its socket with -s or SWARM_SOCKET"),
    errno.ECONNREFUSED: ("nobody listens on {path}", "start swarmd"),
    errno.EACCES: ("you may not open {path}", "use the account that runs swarmd, or root"),
    errno.ENOTSOCK: ("{path} is no socket", "name the daemon's socket with -s or SWARM_SOCKET"),
}


class _Lost(Unavailable):
    """The connection is gone. Unlike the daemon's own `Unavailable` it says nothing about the call under way."""


class BlockingConnection:
    """One connection, one call at a time, from one thread.

    Between calls nothing answers the daemon's pings: a connection left idle for half a minute is closed by it, and the
    next call raises `Unavailable`.
    """

    def __init__(self, link: socket.socket, name: str) -> None:
        self._socket = link
        self._name = name
        self._websocket = WSConnection(ConnectionType.CLIENT)
        self._session = Session(is_dialer=True, hello=Hello())
        self._parts: list[bytes] = []
        self._size = 0
        self._frames: deque[bytes] = deque()

    @classmethod
    def connect(cls, path: Path, *, timeout_s: float = 5.0) -> Self:
        """Raises `Unavailable` with a hint: missing socket, nobody listening, not permitted."""
        deadline = time.monotonic() + timeout_s
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            link.settimeout(timeout_s)
            try:
                link.connect(str(path))
            except OSError as error:
                # Linux says "connection refused" of a plain file, too.
                number = errno.ENOTSOCK if path.exists() and not path.is_socket() else error.errno or 0
                what, hint = _WHY_NOT.get(number, ("cannot connect to {path}: " + str(error), None))
                raise Unavailable(what.format(path=path), hint=hint) from error
            connection = cls(link, str(path))
            connection._greet(deadline)
        except DeadlineExceeded:
            link.close()
            raise Unavailable(f"no answer on {path} within {timeout_s:g} s", hint="is swarmd stuck?") from None
        except BaseException:
            link.close()
            raise
        return connection

    @property
    def peer_hello(self) -> Hello:
        """What the daemon announced."""
        assert self._session.peer_hello is not None
        return self._session.peer_hello

    def call(
        self,
        method: Method[Req, Resp],
        request: Req,
        *,
        timeout_s: float = 15.0,
        headers: Headers = NO_HEADERS,
    ) -> Resp:
        """Raises the server's error, `DeadlineExceeded`, `Unavailable`; `OutcomeUnknown` if the connection was lost
        under a call that changes something."""
        if method.shape is not Shape.UNARY:
            raise ValueError(f"{method.name} is a stream: stream() it")
        for reply in self._messages(method, request, headers=headers, timeout_s=timeout_s):
            return reply
        raise Internal(f"{method.name} ended without an answer")

    def stream(
        self,
        method: Method[Req, Resp],
        request: Req,
        *,
        timeout_s: float | None = None,
        silence_s: float = math.inf,
        headers: Headers = NO_HEADERS,
    ) -> Iterator[Resp]:
        """Messages of a server stream until its end. Closing the iterator cancels what is unfinished.

        Raises the server's error, `DeadlineExceeded` (for the whole stream), `Unavailable`, also when no message came
        for `silence_s`.
        """
        if method.shape is not Shape.SERVER_STREAM:
            raise ValueError(f"{method.name} is no server stream")
        return self._messages(method, request, headers=headers, timeout_s=timeout_s, silence_s=silence_s)

    def close(self) -> None:
        """Say goodbye and close; what is under way is cancelled. Never waits for the daemon."""
        try:
            self._socket.settimeout(0.1)
            self._socket.sendall(self._websocket.send(CloseConnection(code=1000)))
        except (OSError, ProtocolError):
            pass  # the daemon is gone, or said goodbye first
        finally:
            self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- calls ---------------------------------------------------------------------------------------------------

    def _messages(
        self,
        method: Method[Req, Resp],
        request: Req,
        *,
        headers: Headers,
        timeout_s: float | None,
        silence_s: float = math.inf,
    ) -> Iterator[Resp]:
        deadline_s = None if timeout_s is None or timeout_s == math.inf else max(timeout_s, 0.0)
        deadline = math.inf if deadline_s is None else time.monotonic() + deadline_s
        number, frame = self._session.open(method, request, deadline_s=deadline_s, headers=headers)
        is_answered = False
        try:
            self._send(frame, deadline)
            while (event := self._answer(method, number, min(deadline, time.monotonic() + silence_s))) is not None:
                is_answered = method.shape is Shape.UNARY
                grant = self._session.consumed(number, event.size)
                if grant is not None:
                    self._send(grant, deadline)
                reply: Resp = convert(event.body, method.response)
                yield reply
        except DeadlineExceeded:
            if time.monotonic() < deadline:
                raise Unavailable(f"{self._name} has said nothing for {silence_s:g} s") from None
            raise DeadlineExceeded(f"no answer to {method.name} from {self._name} within {timeout_s:g} s") from None
        finally:
            if number in self._session and not is_answered:
                self._give_up(number)

    def _answer(self, method: Method[Any, Any], number: int, deadline: float) -> events.Received | None:
        """As `_next_of`. A call that was sent whole may have been carried out, whatever became of the connection."""
        try:
            return self._next_of(number, deadline)
        except _Lost as lost:
            if not method.mutates:
                raise
            raise OutcomeUnknown(
                f"outcome unknown: {lost.message}",
                hint="look before trying again; a retry with the same idempotency key never acts twice",
            ) from lost

    def _next_of(self, number: int, deadline: float) -> events.Received | None:
        """The next message of a stream; None at its end. Other frames are answers that came too late."""
        while True:
            match self._next_event(deadline):
                case events.Received(stream) as event if stream == number:
                    return event
                case events.Ended(stream) if stream == number:
                    return None
                case events.Failed(stream, error) if stream == number:
                    raise error
                case events.Failed(0, error):
                    raise _Lost(f"{self._name} closed the connection: {error.message}")
                case events.Opened(stream=stream):
                    self._send(self._session.error(stream, Unavailable("a client serves no calls")), deadline)

    def _give_up(self, number: int) -> None:
        frame = self._session.cancel(number)
        try:
            self._send(frame, time.monotonic() + 0.1)
        except SwarmError:
            self._socket.close()  # it would answer into the void

    # -- frames --------------------------------------------------------------------------------------------------

    def _greet(self, deadline: float) -> None:
        request = Request(host="swarm", target="/", subprotocols=[SUBPROTOCOL])
        self._write(self._websocket.send(request), deadline)
        while not self._read_handshake(deadline):
            pass
        self._send(self._session.greeting(), deadline)
        event = self._next_event(deadline)
        if isinstance(event, events.Failed):
            raise event.error

    def _read_handshake(self, deadline: float) -> bool:
        """Whether the upgrade is done; feeds the WebSocket once if not."""
        for event in self._websocket.events():
            match event:
                case AcceptConnection(subprotocol=protocol) if protocol == SUBPROTOCOL:
                    return True
                case AcceptConnection() | RejectConnection() | RejectData():
                    raise Unavailable(f"{self._name} does not speak {SUBPROTOCOL}")
        self._feed(deadline)
        return False

    def _next_event(self, deadline: float) -> events.Event | None:
        while not self._frames:
            self._collect(deadline)
            if not self._frames:
                self._feed(deadline)
        return self._session.receive(self._frames.popleft())

    def _collect(self, deadline: float) -> None:
        """Take whole frames out of the WebSocket, and answer what it must answer."""
        for event in self._websocket.events():
            match event:
                case BytesMessage(data=data, message_finished=is_last):
                    self._parts.append(bytes(data))
                    self._size += len(data)
                    if self._size > FRAME_BYTES_MAX:
                        raise _Lost(f"{self._name} sent a frame over {FRAME_BYTES_MAX} bytes")
                    if is_last:
                        self._frames.append(b"".join(self._parts))
                        self._parts, self._size = [], 0
                case Ping():
                    self._write(self._websocket.send(event.response()), deadline)
                case CloseConnection(reason=reason):
                    raise self._gone(reason or "goodbye")

    def _send(self, frame: bytes, deadline: float) -> None:
        try:
            data = self._websocket.send(BytesMessage(data=frame))
        except ProtocolError:
            raise self._gone("closed") from None
        self._write(data, deadline)

    def _write(self, data: bytes, deadline: float) -> None:
        self._limit(deadline)
        try:
            self._socket.sendall(data)
        except TimeoutError:
            raise DeadlineExceeded("the socket is full") from None
        except OSError as error:
            raise self._gone(error.strerror or str(error)) from error

    def _feed(self, deadline: float) -> None:
        self._limit(deadline)
        try:
            data: Any = self._socket.recv(RECEIVE_BYTES)
        except TimeoutError:
            raise DeadlineExceeded("nothing came") from None
        except OSError as error:
            raise self._gone(error.strerror or str(error)) from error
        if not data:
            raise self._gone("it closed the connection")
        try:
            self._websocket.receive_data(data)
        except ProtocolError as error:
            raise _Lost(f"{self._name} does not speak WebSocket: {error}") from error

    def _limit(self, deadline: float) -> None:
        if deadline == math.inf:
            self._socket.settimeout(None)
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded("too late")
        self._socket.settimeout(left)

    def _gone(self, why: str) -> _Lost:
        return _Lost(f"the connection with {self._name} is gone: {why}")
