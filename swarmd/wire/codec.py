"""Structs to CBOR and back. Hostile bytes become `Invalid` with the path of the offending field.

cbor2 decodes with every tag, duplicate keys, keys that are not strings, indefinite lengths, nesting beyond
`NESTING_MAX` and trailing bytes refused, so nothing but plain data can come out (RFC 8949 section 10).
"""

from __future__ import annotations

import re
from io import BytesIO
from struct import Struct
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
    try:
        decoder = _idle.pop()
        decoder.fp = stream
    except IndexError:
        decoder = _new_decoder(stream)
    try:
        value = decoder.decode()
    except (cbor2.CBORDecodeError, MemoryError, OverflowError, RecursionError) as error:
        raise Invalid(f"not the CBOR we speak: {_reason(error)}", field="$") from error
    if stream.tell() != len(data):
        raise Invalid(f"{len(data) - stream.tell()} bytes follow the CBOR item", field="$")
    _idle.append(decoder)
    return value


_idle: Final[list[cbor2.CBORDecoder]] = []
"""Decoders that ended well, one a thread at most: making one costs as much as reading a short message. One that failed
may have half an item in hand and is not used again."""


def _new_decoder(stream: BytesIO) -> cbor2.CBORDecoder:
    return cbor2.CBORDecoder(
        stream,
        tag_hook=_refuse_tag,
        semantic_decoders=_REFUSED_TAGS,
        max_depth=NESTING_MAX,
        allow_indefinite=False,
        allow_duplicate_keys=False,
        strict_hashable_types=True,
    )


def convert(builtins: Any, type_: type[T]) -> T:
    """Already decoded builtins as a `type_`. Raises `Invalid` with the path."""
    try:
        return msgspec.convert(builtins, type_, builtin_types=_BYTES_STAY_BYTES)
    except msgspec.ValidationError as error:
        what, path = str(error), "$"
        if found := _PATH.fullmatch(what):
            what, path = found["what"], found["path"]
        raise Invalid(f"{what[:_TEXT_MAX]} at {path}", field=path) from error


def convert_plain(builtins: Any, type_: type[T]) -> T:
    """As `convert` in half the time, where `type_` holds no bytes or the caller has seen that they are bytes.

    Saying that bytes stay bytes is what costs; unsaid, msgspec would take text in base64 for bytes too.
    """
    try:
        return msgspec.convert(builtins, type_)
    except msgspec.ValidationError:
        return convert(builtins, type_)  # says what is wrong and where


def head(major: int, value: int) -> bytes:
    """The head of an item of `major` type (its three bits in place), in the shortest form (RFC 8949 section 3).

    For what is put together by hand. `value` is a length, a count or an unsigned integer below 2^64.
    """
    if value < 24:
        return _HEADS[major | value]
    if value < 1 << 8:
        return _HEAD_8(major | 24, value)
    if value < 1 << 16:
        return _HEAD_16(major | 25, value)
    if value < 1 << 32:
        return _HEAD_32(major | 26, value)
    return _HEAD_64(major | 27, value)


_HEADS: Final = tuple([bytes((first,)) for first in range(256)])
_HEAD_8: Final = Struct(">BB").pack
_HEAD_16: Final = Struct(">BH").pack
_HEAD_32: Final = Struct(">BI").pack
_HEAD_64: Final = Struct(">BQ").pack


def integer(value: int) -> bytes:
    """`value` as a CBOR integer."""
    if value < 0:
        return head(0x20, -1 - value)
    return _HEADS[value] if value < 24 else head(0x00, value)


def text(value: str) -> bytes:
    """`value` as a CBOR text string. Raises `UnicodeEncodeError` if it is no Unicode."""
    data = value.encode()
    size = len(data)
    return (_TEXT_HEADS[size] if size < 256 else head(0x60, size)) + data


_TEXT_HEADS: Final = tuple([head(0x60, size) for size in range(256)])


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
