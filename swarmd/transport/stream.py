"""One end of a stream, as whoever sends or receives on it sees it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Generic, TypeVar

import trio

from swarmd.errors import SwarmError, Unavailable
from swarmd.transport.outbox import Outbox
from swarmd.transport.session import Session
from swarmd.wire.codec import convert
from swarmd.wire.methods import Method, Shape

log = logging.getLogger(__name__)

Out = TypeVar("Out")
In = TypeVar("In")

ONE_WAY_MESSAGES_MAX: Final = 8192
ONE_WAY_BYTES_MAX: Final = 32 << 20
"""Received and not yet taken by a ONE_WAY handler. Above either, the newest are dropped: nothing holds the sender back,
and what uses ONE_WAY (Raft) sends again."""


class Stream(Generic[Out, In]):
    """One end of a stream: send `Out`, receive `In`. Credit makes `send` wait for a slow reader.

    For one sending and one receiving task. Made by `Connection.open` and for handlers.
    """

    def __init__(
        self,
        session: Session,
        outbox: Outbox,
        say: Callable[[bytes], None],
        number: int,
        method: Method[Any, Any],
        *,
        is_ours: bool,
    ) -> None:
        self._session = session
        self._outbox = outbox
        self._say = say
        self.number = number
        self._method = method
        self._is_ours = is_ours
        self._is_raw = method.shape is Shape.ONE_WAY and not is_ours
        self._receive_type: type[Any] = method.response if is_ours else method.request
        self._inbox: deque[tuple[Any, int]] = deque()
        self._inbox_bytes = 0
        self._is_finished = False
        self._has_received = False
        self._has_ended = False
        self._error: SwarmError | None = None
        self._arrived = trio.Event()
        self._granted = trio.Event()
        self.dropped = 0
        """ONE_WAY messages that came faster than they were taken."""

    async def send(self, message: Out) -> None:
        """Raises the peer's error, or `Unavailable` if the connection is gone or the peer has ended the call.

        `Cancelled` means it was not sent.
        """
        await trio.lowlevel.checkpoint()
        while True:
            if self.number not in self._session:
                raise self._error or Unavailable("the peer has already ended this call")
            if not self._session.may_send(self.number):
                self._granted = trio.Event()
                await self._granted.wait()
            elif not self._outbox.has_room():
                await self._outbox.wait_room()
            else:
                break
        self._say(self._session.data(self.number, message))

    async def receive(self) -> In:
        """The next message. Raises `trio.EndOfChannel` after a clean END, else the peer's error.

        On a ONE_WAY handler's stream a message is the bytes that were posted. `Cancelled` means none was taken.
        """
        await self._wait()
        if not self._inbox:
            raise self._error or trio.EndOfChannel
        return self._take()

    async def receive_all(self) -> list[In]:
        """Every message that has arrived, at least one; like `receive` otherwise. Saves a wake-up each."""
        await self._wait()
        if not self._inbox:
            raise self._error or trio.EndOfChannel
        return [self._take() for _ in range(len(self._inbox))]

    async def _wait(self) -> None:
        if self._inbox or self._is_finished:
            await trio.lowlevel.checkpoint()
        while not self._inbox and not self._is_finished:
            self._arrived = trio.Event()
            await self._arrived.wait()

    def _take(self) -> In:
        body, size = self._inbox.popleft()
        if self._is_raw:
            self._inbox_bytes -= size
            raw: In = body
            return raw
        grant = self._session.consumed(self.number, size)
        if grant is not None:
            self._say(grant)
        message: In = convert(body, self._receive_type)
        return message

    def __aiter__(self) -> AsyncIterator[In]:
        return self

    async def __anext__(self) -> In:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    async def end(self) -> None:
        """Say that nothing more will be sent. Saying so twice, or on a stream that is over, does nothing."""
        await trio.lowlevel.checkpoint()
        if not self._has_ended and self.number in self._session:
            self._has_ended = True
            self._say(self._session.end(self.number))

    async def answer(self, reply: Out) -> None:
        """Send the one reply and end, in one packet and without giving up the turn unless there is no room."""
        await self._outbox.wait_room()
        if self.number in self._session:
            self._say(self._session.data(self.number, reply))
            self._say(self._session.end(self.number))

    # -- for the connection --------------------------------------------------------------------------------------

    @property
    def is_unary(self) -> bool:
        return self._method.shape is Shape.UNARY

    @property
    def has_reply(self) -> bool:
        """Whether something has arrived, taken or not, or the stream is over."""
        return self._is_finished or self._has_received

    def deliver(self, body: Any, size: int) -> None:
        """Take a message from the peer. Raises `Invalid` if a ONE_WAY body is none."""
        if self._is_raw:
            for message in convert(body, self._receive_type).messages:
                self._deliver_raw(message)
        else:
            self._inbox.append((body, size))
        self._has_received = True
        self._arrived.set()

    def _deliver_raw(self, message: bytes) -> None:
        if len(self._inbox) >= ONE_WAY_MESSAGES_MAX or self._inbox_bytes + len(message) > ONE_WAY_BYTES_MAX:
            if self.dropped == 0:
                log.warning("%s: messages come faster than they are taken; dropping some", self._method.name)
            self.dropped += 1
            return
        self._inbox.append((message, len(message)))
        self._inbox_bytes += len(message)

    def grant(self) -> None:
        """There is credit again."""
        self._granted.set()

    def finish(self, error: SwarmError | None) -> None:
        """Nothing more will come. The first reason stays."""
        if not self._is_finished:
            self._is_finished = True
            self._error = error
        self._arrived.set()
        self._granted.set()
