"""Structs to CBOR and back. Hostile bytes become `Invalid` with the path of the offending field.

cbor2 decodes with every tag, duplicate keys, keys that are not strings, indefinite lengths, nesting beyond
`NESTING_MAX` and trailing bytes refused, so nothing but plain data can come out (RFC 8949 section 10).
"""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any, Final, NoReturn, TypeVar

import cbor2
import msgspec

from swarmd.errors import Invalid

NESTING_MAX: Final = 16
"""Containers inside one another; deeper input is refused before it can cost stack."""

_BYTES_STAY_BYTES: Final = (bytes,)
_PATH: Final = re.compile(r"(?P<what>.*) - at `(?P<path>[^`]*)`", re.DOTALL)
_TEXT_MAX: Final = 200
"""Characters of a decoder's complaint that are passed on; it may quote the input."""

T = TypeVar("T")


def encode(value: Any) -> bytes:
    """`value` (a Struct or builtins) as CBOR; bytes stay bytes."""
    return cbor2.dumps(msgspec.to_builtins(value, builtin_types=_BYTES_STAY_BYTES))


def decode(data: bytes | memoryview, type_: type[T]) -> T:
    """The one `type_` that `data` holds. Raises `Invalid` for anything else, with `field` set to its path."""
    return convert(loads(data), type_)


def loads(data: bytes | memoryview) -> Any:
    """The builtins that `data` holds, under the refusals above. Raises `Invalid`.

    CBOR's `undefined` and unassigned simple values come through as cbor2's own objects: `convert` refuses them, and
    whoever looks at builtins directly checks their types.
    """
    stream = BytesIO(data)
    decoder = cbor2.CBORDecoder(
        stream,
        tag_hook=_refuse_tag,
        semantic_decoders=_REFUSED_TAGS,
        max_depth=NESTING_MAX,
        allow_indefinite=False,
        allow_duplicate_keys=False,
        strict_hashable_types=True,
    )
    try:
        value = decoder.decode()
    except (cbor2.CBORDecodeError, MemoryError, OverflowError, RecursionError) as error:
        raise Invalid(f"not the CBOR we speak: {_reason(error)}", field="$") from error
    if stream.tell() != len(data):
        raise Invalid(f"{len(data) - stream.tell()} bytes follow the CBOR item", field="$")
    return value


def convert(builtins: Any, type_: type[T]) -> T:
    """Already decoded builtins as a `type_`. Raises `Invalid` with the path."""
    try:
        return msgspec.convert(builtins, type_, builtin_types=_BYTES_STAY_BYTES)
    except msgspec.ValidationError as error:
        what, path = str(error), "$"
        if found := _PATH.fullmatch(what):
            what, path = found["what"], found["path"]
        raise Invalid(f"{what[:_TEXT_MAX]} at {path}", field=path) from error


def _refuse_tag(*_: object) -> NoReturn:
    raise ValueError("tags are not part of this protocol")


_REFUSED_TAGS: Final = dict.fromkeys(
    (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799),
    _refuse_tag,
)
"""Every tag that cbor2 gives a meaning of its own; `_refuse_tag` as `tag_hook` gets all others."""


def _reason(error: BaseException) -> str:
    cause = error.__cause__
    text = f"{error}: {cause}" if cause is not None else str(error) or type(error).__name__
    return text[:_TEXT_MAX]
