"""Lists: OR inside a filter's field, AND between fields, an empty field matches everything; one reply is one frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from swarmd.errors import ResourceExhausted
from swarmd.model import StoredObject
from swarmd.state.command import Table
from swarmd.state.store import State

LIST_BYTES_MAX: Final = 3 << 20
"""What a frame of 4 MiB surely holds: sizes are measured in MessagePack, which CBOR follows within a few per cent."""


def has_prefix(id: str, prefixes: Sequence[str]) -> bool:
    """Whether `id` begins with one of them."""
    return not prefixes or id.startswith(tuple(prefixes))


def has_name(names: Sequence[str], *candidates: str) -> bool:
    """Whether one of `candidates` is one of `names`, whatever the case."""
    return not names or not {name.casefold() for name in names}.isdisjoint(name.casefold() for name in candidates)


def prefixed(state: State, table: Table, prefixes: Sequence[str]) -> tuple[StoredObject, ...]:
    """Each object of `table` whose id begins with one of `prefixes`, once."""
    found = {object.id: object for prefix in prefixes for object in state.by_id_prefix(table, prefix)}
    return tuple(found.values())


def check_size(views: Sequence[Any], kind: str, hint: str) -> None:
    """Raise `ResourceExhausted` if one reply does not hold all of them."""
    encoder, size = msgspec.msgpack.Encoder(), 0
    for view in views:
        size += len(encoder.encode(view))
        if size > LIST_BYTES_MAX:
            raise ResourceExhausted(f"{len(views)} {kind} match, more than one reply of 4 MiB holds", hint=hint)
