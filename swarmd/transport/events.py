"""What a `Session` says happened when it was given a frame."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from swarmd.errors import SwarmError
from swarmd.wire.frames import Headers, Hello
from swarmd.wire.methods import Method


class Greeted(msgspec.Struct, frozen=True, gc=False):
    """The peer's HELLO, once."""

    hello: Hello


class Opened(msgspec.Struct, frozen=True):
    """The peer makes a call. `method` is None when we do not know `name`: answer with an error."""

    stream: int
    name: str
    method: Method[Any, Any] | None
    deadline_s: float | None
    headers: Headers
    body: Any


class Received(msgspec.Struct, frozen=True):
    """A message of `size` bytes; tell `consumed` once it is read."""

    stream: int
    body: Any
    size: int


class Ended(msgspec.Struct, frozen=True, gc=False):
    """The peer says no more on this stream. After the acceptor's END it is over."""

    stream: int


class Failed(msgspec.Struct, frozen=True):
    """The stream is over, with the peer's error. Stream 0: the connection is."""

    stream: int
    error: SwarmError


class Cancelled(msgspec.Struct, frozen=True, gc=False):
    """The opener gave up; the stream is over."""

    stream: int


class Granted(msgspec.Struct, frozen=True, gc=False):
    """There is credit again on this stream."""

    stream: int


Event: TypeAlias = Greeted | Opened | Received | Ended | Failed | Cancelled | Granted


class LocalMisuse(RuntimeError):
    """Our own side broke the rules: a defect."""
