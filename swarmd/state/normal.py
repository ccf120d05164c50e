"""Objects in the one form that survives encoding exactly: what the leader applies is what followers decode.

An int in a float field, a list where a tuple belongs, a subclass of str, a dict that its maker still holds: each would
make the proposer's copy differ from everybody else's. A trip through typed msgpack removes them all, and refuses
integers beyond 64 bits and text that is no Unicode. It is the largest part of building a transaction (3 us for a task);
checking types field by field in Python takes longer.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from swarmd.errors import Invalid
from swarmd.model import StoredObject, TaskStatus
from swarmd.state.command import TYPE_OF_TABLE

S = TypeVar("S", bound=StoredObject | TaskStatus)

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODERS: Final[dict[type, msgspec.msgpack.Decoder[Any]]] = {
    type_: msgspec.msgpack.Decoder(type_) for type_ in (*TYPE_OF_TABLE.values(), TaskStatus)
}


def normal(value: S) -> tuple[S, int]:
    """`value` in normal form and its size in bytes, about what it takes in an entry. Raises `Invalid`."""
    try:
        data = _ENCODER.encode(value)
        return _DECODERS[type(value)].decode(data), len(data)
    except (msgspec.MsgspecError, ValueError, OverflowError, TypeError) as error:
        raise Invalid(f"a {type(value).__name__.lower()} that cannot be stored: {error}") from error
