"""Objects in the one form that survives encoding exactly: what the leader applies is what followers decode.

An int in a float field, a list where a tuple belongs, a subclass of str, a dict that its maker still holds: each would
make the proposer's copy differ from everybody else's. A trip through typed msgpack removes them all, and refuses
integers beyond 64 bits and text that is no Unicode. It takes 2 us for a task; walking the fields in Python, even by
code made for each type, takes longer.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar, cast

import msgspec
from msgspec.structs import replace

from swarmd.errors import Invalid
from swarmd.model import Service, StoredObject, Task, TaskStatus
from swarmd.state.command import TYPE_OF_TABLE
from swarmd.state.specs import NO_SPEC, SPECS, shared

S = TypeVar("S", bound=StoredObject | TaskStatus)

_encode: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final[dict[type, Any]] = {
    type_: msgspec.msgpack.Decoder(type_).decode for type_ in (*TYPE_OF_TABLE.values(), TaskStatus)
}
_WITH_SPEC: Final = (Task, Service)
_NO_SPEC_BYTES: Final = len(_encode(NO_SPEC))


def normal(value: S) -> tuple[S, int]:
    """`value` in normal form and its size in bytes, about what it takes in an entry. Raises `Invalid`.

    Equal task specs become one object.
    """
    given: Any = value
    try:
        # A spec that equals a shared one is replaced by it, and spared the trip.
        if type(given) is Task and (found := SPECS.find(given.spec)) is not None:
            data = _encode(replace(given, spec=NO_SPEC))
            return replace(_DECODE[Task](data), spec=found[0]), len(data) - _NO_SPEC_BYTES + found[1]
        data = _encode(given)
        made = _DECODE[type(given)](data)
    except (msgspec.MsgspecError, ValueError, OverflowError, TypeError) as error:
        raise Invalid(f"a {type(given).__name__.lower()} that cannot be stored: {error}") from error
    return (cast("S", shared(made)) if type(made) in _WITH_SPEC else made), len(data)
