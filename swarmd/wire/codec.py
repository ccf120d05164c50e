"""Structs to CBOR and back. Hostile bytes become `Invalid` with the path of the offending field.

cbor2 decodes with tags that build objects, duplicate keys, indefinite lengths and trailing bytes refused.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

NESTING_MAX: Final = 16

T = TypeVar("T")


def encode(value: Any) -> bytes:
    """`value` (a Struct or builtins) as CBOR; bytes stay bytes."""
    raise NotImplementedError


def decode(data: bytes | memoryview, type_: type[T]) -> T:
    """The one `type_` that `data` holds. Raises `Invalid` for anything else, with `field` set to its path."""
    raise NotImplementedError


def loads(data: bytes | memoryview) -> Any:
    """The builtins that `data` holds, under the refusals above. Raises `Invalid`."""
    raise NotImplementedError


def convert(builtins: Any, type_: type[T]) -> T:
    """Already decoded builtins as a `type_`. Raises `Invalid` with the path."""
    raise NotImplementedError
