"""One connection: calls and streams multiplexed over one WebSocket.

Built by `dialer.dial` / `dialer.connect_socket` and by `Listener`; both ends may call.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

from swarmd.wire.frames import Headers, Hello
from swarmd.wire.identity import Caller
from swarmd.wire.methods import Method

Req = TypeVar("Req")
Resp = TypeVar("Resp")
Out = TypeVar("Out")
In = TypeVar("In")


class Stream(Generic[Out, In]):
    """One end of a stream: send `Out`, receive `In`. Credit makes `send` wait for a slow reader."""

    async def send(self, message: Out) -> None:
        """Raises the peer's error, or `Unavailable` if the connection is gone."""
        raise NotImplementedError

    async def receive(self) -> In:
        """The next message. Raises `trio.EndOfChannel` after a clean END, else the peer's error."""
        raise NotImplementedError

    def __aiter__(self) -> AsyncIterator[In]:
        raise NotImplementedError

    async def end(self) -> None:
        """Say that nothing more will be sent."""
        raise NotImplementedError


class Call:
    """A call as its handler sees it."""

    method: Method[Any, Any]
    caller: Caller
    headers: Headers
    deadline: float
    """On `trio.current_time()`'s clock; inf if the caller gave none. The handler is cancelled when it passes."""


class Connection:
    """An open connection. Lost: every call and stream on it ends with `Unavailable`."""

    peer: Caller
    peer_hello: Hello
    closed: Any
    """A `trio.Event`, set once the connection is gone."""

    async def call(
        self, method: Method[Req, Resp], request: Req, *, timeout_s: float = 5.0, headers: Headers = Headers()
    ) -> Resp:
        """A unary call. Raises the peer's error, `DeadlineExceeded`, or `Unavailable`. `Cancelled` cancels it there too."""
        raise NotImplementedError

    def open(
        self, method: Method[Req, Resp], request: Req | None = None, *, headers: Headers = Headers()
    ) -> AbstractAsyncContextManager[Stream[Req, Resp]]:
        """Open a stream (`request` is the first message, mandatory for SERVER_STREAM). Leaving the block cancels what is unfinished."""
        raise NotImplementedError

    def post(self, method: Method[Req, Any], message: bytes) -> bool:
        """ONE_WAY, synchronous, never waits: hand an encoded `Req` body to the socket, or say False (full or gone) and
        the caller drops it. The first post opens the stream. What Raft uses."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close politely within a second."""
        raise NotImplementedError


UnaryHandler = Callable[[Call, Any], Awaitable[Any]]
StreamHandler = Callable[[Call, Any, Stream[Any, Any]], Awaitable[Any]]
"""(call, first request, stream) -> reply (CLIENT_STREAM) or None. A ONE_WAY handler gets the raw body bytes from `stream.receive()`."""


class Router:
    """Method name -> handler. `authorise` stands in front of every one of them and nothing goes around it."""

    def __init__(self, authorise: Callable[[Method[Any, Any], Caller], None]) -> None:
        """`authorise` raises `PermissionDenied` or `Unauthenticated`."""
        raise NotImplementedError

    def add(self, method: Method[Any, Any], handler: UnaryHandler | StreamHandler) -> None:
        """Serve `method`. A method without a handler answers `unimplemented`; an unknown one too, typed."""
        raise NotImplementedError

    def remove(self, method: Method[Any, Any]) -> None:
        raise NotImplementedError
