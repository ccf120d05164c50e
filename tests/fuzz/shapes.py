"""Changes that keep the shape: what an input holds is read, one value in it exchanged, and written again. Bytes that
are changed blindly seldom get past a decoder; these do.
"""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable
from typing import Any, Final

import cbor2

from swarmd.errors import Invalid
from swarmd.wire.codec import loads

_RECORD: Final = struct.Struct(">BBI")
Change = Callable[[bytes, random.Random], bytes | None]
"""The changed input, or None for one that has not the shape."""

ODD: Final[tuple[Any, ...]] = (
    None, True, False, 0, 1, -1, 2**31, -(2**31), 2**53, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), -(2**64), 0.0, -0.0,
    -1.5, 1e308, math.inf, -math.inf, math.nan, "", "a", "\0", "\n", "\u202e", "\ufdd0", "x" * 300, "n" * 25, "../x",
    b"", b"\0", b"x" * 300, [], {}, [[]], [None], {"": None}, {"id": ""}, {"v": 2**64 - 1},
)  # fmt: skip


def one_item(data: bytes, rng: random.Random) -> bytes | None:
    """An input that is one CBOR item."""
    try:
        value = loads(data)
    except Invalid:
        return None
    return _written(_changed(value, rng))


def pieces(data: bytes, rng: random.Random) -> bytes | None:
    """Items behind two bytes with the length of each: one is changed, repeated, moved or left out."""
    parts = []
    while len(data) >= 2:
        length = int.from_bytes(data[:2], "big")
        parts.append(data[2 : 2 + length])
        data = data[2 + length :]
    if not parts:
        return None
    at = rng.randrange(len(parts))
    match rng.randrange(5):
        case 0:
            parts.insert(rng.randrange(len(parts) + 1), parts[at])
        case 1:
            parts.insert(rng.randrange(len(parts)), parts.pop(at))
        case 2:
            del parts[at]
        case _:
            parts[at] = one_item(parts[at], rng) or parts[at]
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts if len(part) < 1 << 16)


def records(data: bytes, rng: random.Random) -> bytes | None:
    """The records of a snapshot."""
    parts, position = [], 0
    while len(data) - position >= _RECORD.size:
        kind, table, length = _RECORD.unpack_from(data, position)
        position += _RECORD.size + length
        parts.append((kind, table, data[position - length : position]))
    if not parts:
        return None
    at = rng.randrange(len(parts))
    kind, table, content = parts[at]
    match rng.randrange(6):
        case 0:
            parts.insert(rng.randrange(len(parts) + 1), parts[at])
        case 1:
            del parts[at]
        case 2:
            parts[at] = (kind, rng.randrange(16), content)
        case _:
            parts[at] = (kind, table, one_item(content, rng) or content)
    return b"".join(_RECORD.pack(kind, table, len(content)) + content for kind, table, content in parts)


def _written(value: Any) -> bytes | None:
    try:
        return cbor2.dumps(value)
    except (cbor2.CBOREncodeError, UnicodeEncodeError, ValueError, TypeError):
        return None


def _changed(value: Any, rng: random.Random) -> Any:
    """`value` with something in it exchanged; bytes that hold CBOR themselves are often gone into."""
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        match rng.randrange(10):
            case 0:
                return [*value[:at], *value[at + 1 :]]
            case 1:
                return [*value, value[at]]
            case _:
                return [*value[:at], _changed(value[at], rng), *value[at + 1 :]]
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        match rng.randrange(10):
            case 0:
                return {name: item for name, item in value.items() if name != key}
            case 1:
                return value | {rng.choice(("id", "v", "x", "")): rng.choice(ODD)}
            case _:
                return value | {key: _changed(value[key], rng)}
    if isinstance(value, bytes) and rng.random() < 0.5 and (inner := one_item(value, rng)) is not None:
        return inner
    return rng.choice(ODD)


CHANGE_OF: Final[dict[str, Change]] = {
    **dict.fromkeys(("codec", "frames", "raft", "membership", "command", "files", "apply"), one_item),
    "session": pieces,
    "snapshot": records,
}
"""By target."""
