"""Incoming calls: from the OPEN of a peer to a handler, and from what the handler does to the answer."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from swarmd.errors import (
    DeadlineExceeded,
    Internal,
    Invalid,
    ResourceExhausted,
    SwarmError,
    Unimplemented,
)
from swarmd.transport.events import Opened
from swarmd.transport.outbox import Outbox
from swarmd.transport.session import Session
from swarmd.transport.stream import Stream
from swarmd.wire.authorise import origin
from swarmd.wire.codec import convert
from swarmd.wire.frames import STREAMS_MAX, Headers
from swarmd.wire.identity import Caller
from swarmd.wire.methods import Method, Shape

log = logging.getLogger(__name__)

HANDLERS_MAX: Final = 2 * STREAMS_MAX
"""Running for one connection, those included whose call was cancelled and which still clean up."""
METHOD_NAME_SHOWN: Final = 64


class Call:
    """A call as its handler sees it."""

    def __init__(self, method: Method[Any, Any], caller: Caller, headers: Headers, deadline: float) -> None:
        self.method = method
        self.caller = caller
        self.headers = headers
        self.deadline = deadline
        """On `trio.current_time()`'s clock; inf if the caller gave none. The handler is cancelled when it passes."""

    def __repr__(self) -> str:
        return f"<Call {self.method.name} by {self.caller.actor}>"


UnaryHandler = Callable[[Call, Any], Awaitable[Any]]
"""(call, request) -> reply."""
StreamHandler = Callable[[Call, Any, Stream[Any, Any]], Awaitable[Any]]
"""(call, first message, stream) -> reply (CLIENT_STREAM) or None.

A ONE_WAY handler gets None as first message and from `stream.receive()` the bytes of each `Connection.post`.
"""


Sink = Callable[[bytes], None]
"""Takes one posted message, at once and without waiting. An error it raises ends the stream, like a handler's."""
SinkMaker = Callable[[Call], Sink]


class Router:
    """Method name -> handler. `authorise` stands in front of every one of them and nothing goes around it."""

    def __init__(self, authorise: Callable[[Method[Any, Any], Caller], None]) -> None:
        """`authorise` raises `PermissionDenied` or `Unauthenticated`."""
        self._authorise = authorise
        self._handlers: dict[str, UnaryHandler | StreamHandler] = {}
        self._sinks: dict[str, SinkMaker] = {}

    def add_sink(self, method: Method[Any, Any], make: SinkMaker) -> None:
        """Serve a ONE_WAY `method` in the connection's own read loop: no task and no queue between socket and sink."""
        if method.shape is not Shape.ONE_WAY:
            raise ValueError(f"{method.name} is not one-way")
        self._sinks[method.name] = make

    def sink_for(self, method: Method[Any, Any], caller: Caller) -> SinkMaker | None:
        """The sink's maker, for a caller who may use it; None if `method` has a handler instead. Raises as `admit`."""
        make = self._sinks.get(method.name)
        if make is not None:
            self._authorise(method, caller)
        return make

    def add(self, method: Method[Any, Any], handler: UnaryHandler | StreamHandler) -> None:
        """Serve `method`. A method without a handler answers `unimplemented`; an unknown one too, typed."""
        if method.name in self._handlers:
            raise ValueError(f"{method.name} has a handler already")
        self._handlers[method.name] = handler

    def remove(self, method: Method[Any, Any]) -> None:
        """Serve `method` no longer; calls under way go on."""
        self._handlers.pop(method.name, None)

    def admit(self, method: Method[Any, Any], caller: Caller) -> UnaryHandler | StreamHandler:
        """The handler, for a caller who may use it. Raises what `authorise` raises, then `Unimplemented`."""
        self._authorise(method, caller)
        handler = self._handlers.get(method.name)
        if handler is None:
            raise Unimplemented(f"{method.name} is not served here")
        return handler


class SinkStream:
    """The end of a ONE_WAY stream whose messages are taken as they come."""

    def __init__(self, call: Call, sink: Sink, end: Callable[[SwarmError | None], None]) -> None:
        self._call = call
        self._sink = sink
        self._end = end
        self._is_over = False

    def deliver(self, body: Any, size: int) -> None:
        """Hand each message on."""
        if self._is_over:
            return
        try:
            for message in convert(body, self._call.method.request).messages:
                self._sink(message)
        except Exception as error:  # noqa: BLE001 - like a handler's: it ends its call, not the connection
            self.finish(_told(self._call, error))

    def grant(self) -> None:
        """Nothing is ever sent back."""

    def finish(self, error: SwarmError | None) -> None:
        """The peer ended it, or the sink refused."""
        if not self._is_over:
            self._is_over = True
            self._end(error)


class IncomingCalls:
    """The calls that the peer has under way on one connection. Its handlers run in `nursery`."""

    def __init__(
        self,
        router: Router,
        peer: Caller,
        session: Session,
        outbox: Outbox,
        say: Callable[[bytes], None],
        nursery: trio.Nursery,
    ) -> None:
        self._router = router
        self._peer = peer
        self._session = session
        self._outbox = outbox
        self._say = say
        self._nursery = nursery
        self._scopes: dict[int, trio.CancelScope] = {}
        self._streams: dict[int, Stream[Any, Any]] = {}
        self._sinks: dict[int, SinkStream] = {}

    def opened(self, event: Opened) -> None:
        """Start the handler, or answer at once why not."""
        try:
            if event.method is None:
                raise Unimplemented(f"unknown method {event.name[:METHOD_NAME_SHOWN]!r}")
            if len(self._scopes) >= HANDLERS_MAX:
                raise ResourceExhausted(f"{HANDLERS_MAX} calls are under way on this connection")
            caller = origin(self._peer, event.headers)
            make = self._router.sink_for(event.method, caller)
            if make is not None:
                self._open_sink(event.stream, Call(event.method, caller, event.headers, math.inf), make)
                return
            handler = self._router.admit(event.method, caller)
        except SwarmError as error:
            self._say(self._session.error(event.stream, error))
            return
        deadline = math.inf if event.deadline_s is None else trio.current_time() + event.deadline_s
        call = Call(event.method, caller, event.headers, deadline)
        stream = Stream[Any, Any](self._session, self._outbox, self._say, event.stream, event.method, is_ours=False)
        self._streams[event.stream] = stream
        self._scopes[event.stream] = trio.CancelScope(deadline=deadline)
        self._nursery.start_soon(self._serve, call, handler, event.body, stream)

    def _open_sink(self, number: int, call: Call, make: SinkMaker) -> None:
        self._sinks[number] = SinkStream(call, make(call), lambda error: self._end_sink(number, error))

    def _end_sink(self, number: int, error: SwarmError | None) -> None:
        if self._sinks.pop(number, None) is not None and number in self._session:
            self._say(self._session.error(number, error) if error is not None else self._session.end(number))

    def stream(self, number: int) -> Stream[Any, Any] | SinkStream | None:
        """The handler's end, while it runs."""
        return self._streams.get(number) or self._sinks.get(number)

    def cancelled(self, number: int) -> None:
        """The peer no longer wants an answer."""
        self._sinks.pop(number, None)
        scope = self._scopes.get(number)
        if scope is not None:
            scope.cancel()

    async def _serve(self, call: Call, handler: Any, body: Any, stream: Stream[Any, Any]) -> None:
        number = stream.number
        failure: SwarmError | None = None
        try:
            with self._scopes[number] as scope:
                try:
                    await self._answer(call, handler, body, stream)
                except Exception as error:  # noqa: BLE001 - a handler's failure ends its call, not the connection
                    failure = _told(call, error)
            if scope.cancelled_caught:
                failure = DeadlineExceeded(f"{call.method.name} took longer than its caller would wait")
            if failure is not None and number in self._session:
                self._say(self._session.error(number, failure))
        finally:
            del self._scopes[number], self._streams[number]

    async def _answer(self, call: Call, handler: Any, body: Any, stream: Stream[Any, Any]) -> None:
        method = call.method
        first = None if body is None else convert(body, method.request)
        if first is None and method.shape is Shape.CLIENT_STREAM:
            first = await _first(method, stream)
        if first is None and method.shape is not Shape.ONE_WAY:
            raise Invalid(f"{method.name} needs a request", field="$")
        if method.shape is Shape.UNARY:
            reply = await handler(call, first)
        else:
            reply = await handler(call, first, stream)
        if method.shape in (Shape.UNARY, Shape.CLIENT_STREAM):
            if not isinstance(reply, method.response):
                raise TypeError(f"the handler of {method.name} returned {type(reply).__name__}")
            await stream.answer(reply)
        else:
            await stream.end()


async def _first(method: Method[Any, Any], stream: Stream[Any, Any]) -> Any:
    try:
        return await stream.receive()
    except trio.EndOfChannel:
        raise Invalid(f"{method.name} needs at least one message", field="$") from None


def _told(call: Call, error: Exception) -> SwarmError:
    """What the caller is told about a handler's failure."""
    if isinstance(error, SwarmError):
        return error
    leaves = _leaves(error)
    if all(isinstance(leaf, SwarmError) for leaf in leaves):
        first = leaves[0]
        assert isinstance(first, SwarmError)
        return first
    log.error("%s by %s failed", call.method.name, call.caller.actor, exc_info=error)
    return Internal(f"{call.method.name} failed because of a defect in this node", hint="its log has the details")


def _leaves(error: Exception) -> list[Exception]:
    if isinstance(error, ExceptionGroup):
        return [leaf for part in error.exceptions for leaf in _leaves(part)]
    return [error]
