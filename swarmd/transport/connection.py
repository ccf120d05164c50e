"""One connection: calls and streams multiplexed over one WebSocket.

Built by `dialer.dial` / `dialer.connect_socket` and by `Listener`; both ends may call. See DESIGN.md for its tasks.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import trio

from swarmd.errors import (
    DeadlineExceeded,
    Internal,
    Invalid,
    ResourceExhausted,
    SwarmError,
    Unauthenticated,
    Unavailable,
)
from swarmd.transport import events
from swarmd.transport.link import CLOSE_NORMAL, CLOSE_POLICY, Link, LinkLost
from swarmd.transport.outbox import Outbox, PostQueue
from swarmd.transport.router import Call, IncomingCalls, Router, StreamHandler, UnaryHandler
from swarmd.transport.session import Session
from swarmd.transport.stream import Stream
from swarmd.wire.frames import NO_HEADERS, Headers, Hello, idle_ping_s
from swarmd.wire.identity import Caller
from swarmd.wire.methods import Method, Shape

__all__ = ["Call", "Connection", "Router", "Stream", "StreamHandler", "UnaryHandler"]

log = logging.getLogger(__name__)

Req = TypeVar("Req")
Resp = TypeVar("Resp")

CLOSE_S_MAX: Final = 1.0
POST_REOPEN_S: Final = 1.0
"""After the peer ended a stream of posts (it does not serve them yet, or no longer) the next try waits so long."""


class Connection:
    """An open connection. Lost: every call and stream on it ends with `Unavailable`.

    `run` it in a nursery after `greet`.
    """

    def __init__(self, link: Link, session: Session, peer: Caller, router: Router) -> None:
        self.peer = peer
        self.closed = trio.Event()
        """Set once the connection is gone."""
        self.post_error: SwarmError | None = None
        """Why the peer ended the last stream of posts, if it did."""
        self._link = link
        self._session = session
        self._router = router
        self._outbox = Outbox()
        self._streams: dict[int, Stream[Any, Any]] = {}
        self._posts: dict[int, PostQueue] = {}
        self._posts_of: dict[str, PostQueue] = {}
        self._post_again_at = -math.inf
        self._calls: IncomingCalls | None = None
        self._reading = trio.CancelScope()
        self._writer_done = trio.Event()
        self._is_closing = False
        self._violation: SwarmError | None = None
        self._loss = "closed here"

    @property
    def peer_hello(self) -> Hello:
        """What the peer announced."""
        assert self._session.peer_hello is not None, "greet() comes first"
        return self._session.peer_hello

    def __repr__(self) -> str:
        return f"<Connection with {self._peer_name}>"

    @property
    def _peer_name(self) -> str:
        identity = self.peer.identity
        return f"{identity.node_id} at {self.peer.address}" if identity is not None else self.peer.address

    # -- calls ---------------------------------------------------------------------------------------------------

    async def call(
        self, method: Method[Req, Resp], request: Req, *, timeout_s: float = 5.0, headers: Headers = NO_HEADERS
    ) -> Resp:
        """A unary call. Raises the peer's error, `DeadlineExceeded`, or `Unavailable`.

        `Cancelled` cancels it there too; whether it took effect by then is unknown.
        """
        if method.shape is not Shape.UNARY:
            raise ValueError(f"{method.name} is a stream: open() it")
        timeout_s = max(timeout_s, 0.0)
        with trio.move_on_after(timeout_s):
            deadline_s = timeout_s if math.isfinite(timeout_s) else None
            stream = await self._open(method, request, deadline_s=deadline_s, headers=headers)
            try:
                return await stream.receive()
            except trio.EndOfChannel:
                raise Internal(f"{self._peer_name} ended {method.name} without an answer") from None
            finally:
                self._leave(stream)
        raise DeadlineExceeded(f"no answer to {method.name} from {self._peer_name} within {timeout_s:g} s")

    @asynccontextmanager
    async def open(
        self, method: Method[Req, Resp], request: Req | None = None, *, headers: Headers = NO_HEADERS
    ) -> AsyncIterator[Stream[Req, Resp]]:
        """Open a stream (`request` is the first message, mandatory for SERVER_STREAM). Leaving the block cancels what
        is unfinished."""
        if method.shape is Shape.UNARY:
            raise ValueError(f"{method.name} is unary: call() it")
        if request is None and method.shape is Shape.SERVER_STREAM:
            raise ValueError(f"{method.name} needs its request")
        stream = await self._open(method, request, deadline_s=None, headers=headers)
        try:
            yield stream
        finally:
            self._leave(stream)

    async def _open(
        self, method: Method[Req, Resp], request: Req | None, *, deadline_s: float | None, headers: Headers
    ) -> Stream[Req, Resp]:
        await self._outbox.wait_room()
        self._check_open()
        number, frame = self._session.open(method, request, deadline_s=deadline_s, headers=headers)
        stream = Stream[Req, Resp](self._session, self._outbox, self._say, number, method, is_ours=True)
        self._streams[number] = stream
        self._say(frame)
        return stream

    def _leave(self, stream: Stream[Any, Any]) -> None:
        """The caller is done with `stream`: unless it is over or about to be, tell the peer. Never waits."""
        del self._streams[stream.number]
        # The END of an answered unary call is under way: to cancel it would be noise.
        is_answered = stream.is_unary and stream.has_reply
        if stream.number in self._session and not is_answered and not self.closed.is_set():
            self._say(self._session.cancel(stream.number))

    def _check_open(self) -> None:
        if self.closed.is_set() or self._is_closing:
            raise self._unavailable()

    def _unavailable(self) -> Unavailable:
        return Unavailable(f"the connection with {self._peer_name} is gone: {self._loss}")

    # -- posts ---------------------------------------------------------------------------------------------------

    def post(self, method: Method[Req, Any], message: bytes) -> bool:
        """ONE_WAY, synchronous, never waits: queue `message` for the writer, or say False (full, refused or gone) and
        the caller drops it. What Raft uses.

        The first post opens the stream. The request type of a ONE_WAY method holds `messages`, a tuple of bytes; each
        post is one of them, the writer puts what waits into one frame, and the peer's handler receives them one by one.
        Limits: 4,096 messages and 16 MiB waiting.
        """
        if self.closed.is_set():
            return False
        posts = self._posts_of.get(method.name)
        if posts is None or posts.is_over:
            posts = self._open_posts(method)
            if posts is None:
                return False
        if not posts.offer(message):
            return False
        if not self._send_at_once(posts):
            self._outbox.append_posts(posts)
        return True

    def _send_at_once(self, posts: PostQueue) -> bool:
        """Spare a post the writer's turn of the loop, if nothing stands before it and the socket takes it."""
        if self._outbox or self._calls is None or not self._link.can_send_now:
            return False
        try:
            if not self._link.send_now([posts.take_frame()]):
                self._outbox.ask_to_flush()
        except LinkLost as error:
            log.debug("%s: %s", self._peer_name, error)
            self._reading.cancel()
        return True

    def _open_posts(self, method: Method[Any, Any]) -> PostQueue | None:
        if method.shape is not Shape.ONE_WAY:
            raise ValueError(f"{method.name} is not one-way")
        if self._is_closing or trio.current_time() < self._post_again_at:
            return None
        try:
            number, frame = self._session.open(method)
        except ResourceExhausted:
            return None
        posts = PostQueue(lambda messages: self._session.messages(number, messages))
        self._posts[number] = self._posts_of[method.name] = posts
        self._say(frame)
        return posts

    def _posts_ended(self, number: int, error: SwarmError | None) -> None:
        posts = self._posts.pop(number, None)
        if posts is not None:
            posts.is_over = True
            self.post_error = error
            self._post_again_at = trio.current_time() + POST_REOPEN_S
            if error is not None:
                log.info("%s refuses what is posted to it: %s", self._peer_name, error)

    # -- life ----------------------------------------------------------------------------------------------------

    async def greet(self) -> None:
        """Exchange HELLOs. Raises `LinkLost`, or what is wrong with the peer's."""
        try:
            await self._link.send([self._session.greeting()])
        except LinkLost:
            log.debug("%s closed before it was greeted: it may have said why", self._peer_name)
        event = self._session.receive(await self._link.receive())
        if isinstance(event, events.Failed):
            raise event.error
        identity = self.peer.identity
        if identity is None or self.peer.is_local:
            return
        hello = self.peer_hello
        if hello.node not in ("", identity.node_id) or hello.swarm not in ("", identity.swarm_id):
            raise Unauthenticated("the peer calls itself something else than its certificate does")

    async def refuse(self, error: SwarmError) -> None:
        """Tell the peer why there will be no connection, and close. Takes at most two seconds."""
        with trio.move_on_after(CLOSE_S_MAX):
            try:
                await self._link.send([self._session.connection_error(error)])
            except LinkLost:
                log.debug("%s was gone before it was told: %s", self._peer_name, error)
        await self._link.close(CLOSE_POLICY, error.message)

    async def run(self) -> None:
        """Carry calls until the connection is lost, closed, or cancelled. Raises nothing of the peer's making."""
        try:
            async with trio.open_nursery() as io:
                io.start_soon(self._write)
                io.start_soon(self._watch_idle)
                async with trio.open_nursery() as handlers:
                    self._calls = IncomingCalls(
                        self._router, self.peer, self._session, self._outbox, self._say, handlers
                    )
                    with self._reading:
                        await self._read()
                    self._lose()
                    handlers.cancel_scope.cancel()
                await self._say_the_last()
                io.cancel_scope.cancel()
        finally:
            self._lose()
            self._outbox.close()
            reason = self._violation.message if self._violation is not None else ""
            await self._link.close(CLOSE_NORMAL if self._violation is None else CLOSE_POLICY, reason)

    async def aclose(self) -> None:
        """Close politely within a second."""
        if not self.closed.is_set():
            self._is_closing = True
            self._reading.cancel()
            with trio.move_on_after(CLOSE_S_MAX):
                await self.closed.wait()

    def abort(self, reason: str) -> None:
        """Close from outside without waiting; every call ends now."""
        self._loss = reason
        self._is_closing = True
        self._reading.cancel()

    def _lose(self) -> None:
        """From here on nothing works: tell whoever waits."""
        self._is_closing = True
        self.closed.set()
        for stream in self._streams.values():
            stream.finish(self._unavailable())
        for posts in self._posts.values():
            posts.is_over = True

    async def _say_the_last(self) -> None:
        """Let the writer finish what is queued, the reason for closing last."""
        if self._violation is not None:
            log.info("closing the connection with %s: %s", self._peer_name, self._violation)
            self._outbox.append_last(self._session.connection_error(self._violation))
        self._outbox.finish()
        with trio.move_on_after(CLOSE_S_MAX):
            await self._writer_done.wait()

    async def _read(self) -> None:
        while True:
            try:
                data = await self._link.receive()
                event = self._session.receive(data)
                if event is not None:
                    self._handle(event)
            except LinkLost as error:
                self._loss = str(error)
                return
            except SwarmError as error:
                self._break(error)
                return

    def _handle(self, event: events.Event) -> None:
        assert self._calls is not None
        match event:
            case events.Received(number, body, size):
                stream = self._streams.get(number) or self._calls.stream(number)
                if stream is not None:
                    stream.deliver(body, size)
            case events.Opened():
                self._calls.opened(event)
            case events.Ended(number):
                self._finish(number, None)
            case events.Failed(0, error):
                self._loss = error.message
                raise LinkLost(error.message)
            case events.Failed(number, error):
                self._finish(number, error)
            case events.Cancelled(number):
                self._calls.cancelled(number)
            case events.Granted(number):
                stream = self._streams.get(number) or self._calls.stream(number)
                if stream is not None:
                    stream.grant()
            case events.Greeted():
                raise Invalid("HELLO comes once")

    def _finish(self, number: int, error: SwarmError | None) -> None:
        assert self._calls is not None
        stream = self._streams.get(number) or self._calls.stream(number)
        if stream is not None:
            stream.finish(error)
        else:
            self._posts_ended(number, error)

    def _say(self, frame: bytes) -> None:
        try:
            self._outbox.append(frame)
        except ResourceExhausted as error:
            self._break(error)

    def _break(self, error: SwarmError) -> None:
        """The peer broke a rule: stop, and tell it which."""
        if self._violation is None:
            self._violation = error
            self._loss = error.message
        self._reading.cancel()

    async def _write(self) -> None:
        try:
            while await self._outbox.wait_work():
                batch = self._outbox.take()
                if batch:
                    await self._link.send(batch)
                else:
                    await self._link.flush()
        except LinkLost as error:
            log.debug("%s: %s", self._peer_name, error)
            self._reading.cancel()
        finally:
            self._writer_done.set()

    async def _watch_idle(self) -> None:
        """Ask a silent peer whether it is there, and give it up if it does not say so."""
        limit_s = idle_ping_s(self._session.class_)
        while True:
            idle_s = self._link.idle_s
            if idle_s < limit_s:
                await trio.sleep(limit_s - idle_s)
                continue
            with trio.move_on_after(limit_s) as waiting:
                try:
                    await self._link.ping()
                except LinkLost:
                    return
            if waiting.cancelled_caught and self._link.idle_s >= limit_s:
                log.info("%s has not answered for %g s", self._peer_name, self._link.idle_s)
                self._loss = f"no sign of life for {self._link.idle_s:.0f} s"
                self._reading.cancel()
                return
