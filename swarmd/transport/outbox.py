"""What waits to be sent on one connection: one queue, one writer, named limits."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Final

import trio

from swarmd.errors import ResourceExhausted
from swarmd.wire.frames import FRAME_BYTES_MAX

log = logging.getLogger(__name__)

ROOM_FRAMES: Final = 1024
ROOM_BYTES: Final = 4 << 20
"""Above either, whoever can wait waits."""
QUEUE_FRAMES_MAX: Final = 16_384
QUEUE_BYTES_MAX: Final = 64 << 20
"""Above either, the peer does not read what it makes us say (errors, credit), and the connection ends."""
BATCH_BYTES: Final = 128 << 10
"""Frames are gathered into one write up to about this size."""
POST_MESSAGES_MAX: Final = 4096
POST_BYTES_MAX: Final = 16 << 20
POST_FRAME_BYTES: Final = 256 << 10
"""Posted messages are gathered into one frame up to about this size."""
POST_OVERHEAD_BYTES: Final = 64
"""More than a frame adds around one message."""


class PostQueue:
    """Messages of one ONE_WAY stream that wait for the writer; `frame` makes them one DATA."""

    def __init__(self, frame: Callable[[list[bytes]], bytes]) -> None:
        self._frame = frame
        self._messages: deque[bytes] = deque()
        self._bytes = 0
        self.is_over = False
        """The peer ended the stream: what waits is dropped."""
        self.is_queued = False

    def offer(self, message: bytes) -> bool:
        """Whether there was room for `message`."""
        if len(self._messages) >= POST_MESSAGES_MAX or self._bytes + len(message) > POST_BYTES_MAX:
            return False
        if len(message) > FRAME_BYTES_MAX - POST_OVERHEAD_BYTES:
            log.error("dropped a message of %d bytes: it can never fit a frame", len(message))
            return False
        self._messages.append(message)
        self._bytes += len(message)
        return True

    def __bool__(self) -> bool:
        return bool(self._messages) and not self.is_over

    def take_frame(self) -> bytes:
        """The oldest messages as one frame."""
        first = self._messages.popleft()
        batch, size = [first], len(first)
        while self._messages and size + len(self._messages[0]) <= POST_FRAME_BYTES:
            message = self._messages.popleft()
            batch.append(message)
            size += len(message)
        self._bytes -= size
        return self._frame(batch)


class Outbox:
    """Frames in the order they leave. Everything but `wait_room` and `wait_work` is synchronous."""

    def __init__(self) -> None:
        self._queue: deque[bytes | PostQueue] = deque()
        self._bytes = 0
        self._work = trio.Event()
        self._room = trio.Event()
        self._waiting = 0
        self._is_closed = False
        self._is_finishing = False
        self._has_to_flush = False

    def __len__(self) -> int:
        return len(self._queue)

    def append(self, frame: bytes) -> None:
        """Queue a frame. Raises `ResourceExhausted` when the peer has long stopped reading."""
        if self._is_closed:
            return
        if len(self._queue) >= QUEUE_FRAMES_MAX or self._bytes >= QUEUE_BYTES_MAX:
            raise ResourceExhausted("the peer does not read what it asked for")
        self._queue.append(frame)
        self._bytes += len(frame)
        self._work.set()

    def append_posts(self, posts: PostQueue) -> None:
        """Queue whatever `posts` holds by the time the writer comes to it."""
        if not posts.is_queued:
            posts.is_queued = True
            self._queue.append(posts)
            self._work.set()

    def has_room(self) -> bool:
        return len(self._queue) < ROOM_FRAMES and self._bytes < ROOM_BYTES

    async def wait_room(self) -> None:
        """Return when a sender that can wait should no longer."""
        self._waiting += 1
        try:
            while not self.has_room() and not self._is_closed:
                await self._room.wait()
        finally:
            self._waiting -= 1

    async def wait_work(self) -> bool:
        """Return True when there is something to send, False when there never will be."""
        while not (self._queue or self._has_to_flush or self._is_finishing):
            if self._work.is_set():
                self._work = trio.Event()
            await self._work.wait()
        has_work = bool(self._queue) or self._has_to_flush
        self._has_to_flush = False
        return has_work

    def ask_to_flush(self) -> None:
        """Wake the writer though nothing is queued: a part of something is left below."""
        self._has_to_flush = True
        self._work.set()

    def take(self) -> list[bytes]:
        """The oldest frames, about `BATCH_BYTES` of them; at least one if there is any."""
        batch: list[bytes] = []
        size = 0
        while self._queue and size < BATCH_BYTES:
            item = self._queue.popleft()
            if isinstance(item, PostQueue):
                if not item:
                    item.is_queued = False
                    continue
                frame = item.take_frame()
                self._queue.append(item)  # behind the others; taken off when it is empty
            else:
                frame = item
                self._bytes -= len(frame)
            batch.append(frame)
            size += len(frame)
        self._wake_senders()
        return batch

    def append_last(self, frame: bytes) -> None:
        """Replace everything that waits by this one frame."""
        self._queue.clear()
        self._queue.append(frame)
        self._bytes = len(frame)
        self._work.set()

    def finish(self) -> None:
        """Let the writer stop once the queue is empty."""
        self._is_finishing = True
        self._work.set()

    def close(self) -> None:
        """Nothing leaves any more: drop what waits and wake whoever does."""
        self._is_closed = True
        self._queue.clear()
        self._bytes = 0
        self._wake_senders()

    def _wake_senders(self) -> None:
        if self._waiting and (self._is_closed or self.has_room()):
            self._room.set()
            self._room = trio.Event()
