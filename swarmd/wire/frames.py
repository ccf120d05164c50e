"""Frames of subprotocol `swarm.1`: one binary WebSocket message is one CBOR array `[type, stream, ...]`.

Types are append-only. See DESIGN.md for the life of a stream and its credit.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

from swarmd.errors import SwarmError
from swarmd.wire.identity import ForwardedCaller

SUBPROTOCOL: Final = "swarm.1"
PROTOCOL_MIN: Final = 1
PROTOCOL_MAX: Final = 1
FRAME_BYTES_MAX: Final = 4 << 20
ANONYMOUS_FRAME_BYTES_MAX: Final = 64 << 10
STREAMS_MAX: Final = 1024
HANDSHAKE_S_MAX: Final = 10.0
IDLE_PING_S: Final = 15.0
CHUNK_BYTES_MAX: Final = 1 << 20
WINDOW_MESSAGES: Final = 64
WINDOW_BYTES: Final = 8 << 20


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


class Hello(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The first frame from each side, on stream 0. The highest protocol both speak wins."""

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


def error_body(error: SwarmError) -> ErrorBody:
    """How `error` is told to a peer."""
    raise NotImplementedError


def error_from_body(body: ErrorBody) -> SwarmError:
    """The error that a peer told; an unknown kind becomes `Internal`."""
    raise NotImplementedError
