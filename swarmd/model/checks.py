"""What checks of specs are made of: each function returns nothing or raises `Invalid` naming the field.

Lengths are judged before any pattern sees a text, and every pattern is matched in linear time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from swarmd.errors import Invalid
from swarmd.model.common import IndexEntry
from swarmd.model.quote import quote

SPEC_BYTES_MAX: Final = 1 << 20
LABELS_MAX: Final = 1_000
LABEL_KEY_BYTES_MAX: Final = 256
LABEL_VALUE_BYTES_MAX: Final = 64 << 10
STRINGS_MAX: Final = 4_096
"""Items of `command`, `args` and `env`, each."""
STRING_BYTES_MAX: Final = 128 << 10
"""One argument or variable: Linux's MAX_ARG_STRLEN."""
INTEGER_MAX: Final = (1 << 63) - 1
DURATION_S_MAX: Final = 10 * 365 * 24 * 3600.0
NAME_CHARACTERS_MAX: Final = 63
"""Names of services and networks: parts of host names."""
INDICES_MAX: Final = 64
"""Custom indices of one object."""
INDEX_BYTES_MAX: Final = 256
"""Their keys and their values, each."""

_NAME = re.compile(r"[A-Za-z0-9]+(?:[-_]+[A-Za-z0-9]+)*")


def check_name(name: str, what: str) -> None:
    """Raise `Invalid` unless `name` can be a part of a host name, as those of services and networks are."""
    if not name:
        raise Invalid(f"a {what} needs a name", field="$.name")
    if len(name) > NAME_CHARACTERS_MAX:
        raise Invalid(f"a {what}'s name has at most {NAME_CHARACTERS_MAX} characters, not {len(name)}", field="$.name")
    if _NAME.fullmatch(name) is None:
        raise Invalid(
            f"{quote(name)} is not a legal {what} name",
            field="$.name",
            hint="letters and digits, joined by - or _; no dots",
        )


def check_labels(labels: Mapping[str, str], path: str) -> None:
    """Raise `Invalid` unless `labels` can be stored."""
    if len(labels) > LABELS_MAX:
        raise Invalid(f"there are at most {LABELS_MAX} labels, not {len(labels)}", field=path)
    for key, value in labels.items():
        if not key or not key.isprintable() or key != key.strip():
            raise Invalid(f"{quote(key)} is not a legal label", field=path, hint="a label is KEY=value")
        check_text(key, path, LABEL_KEY_BYTES_MAX)
        check_text(value, f"{path}[{quote(key)}]", LABEL_VALUE_BYTES_MAX)


def check_indices(indices: tuple[IndexEntry, ...], path: str) -> None:
    """Raise `Invalid` unless they can be looked up."""
    if len(indices) > INDICES_MAX:
        raise Invalid(f"there are at most {INDICES_MAX} indices, not {len(indices)}", field=path)
    for position, entry in enumerate(indices):
        if not entry.key:
            raise Invalid("an index needs a key", field=f"{path}[{position}].key")
        check_text(entry.key, f"{path}[{position}].key", INDEX_BYTES_MAX)
        check_text(entry.value, f"{path}[{position}].value", INDEX_BYTES_MAX)


def check_strings(strings: tuple[str, ...], path: str) -> None:
    """Raise `Invalid` unless they can be arguments of a program."""
    if len(strings) > STRINGS_MAX:
        raise Invalid(f"there are at most {STRINGS_MAX}, not {len(strings)}", field=path)
    for position, text in enumerate(strings):
        check_text(text, f"{path}[{position}]", STRING_BYTES_MAX)


def check_text(text: str, path: str, bytes_max: int) -> None:
    """No NUL (no kernel takes one), valid Unicode (no frame takes anything else), of a bounded size."""
    if len(text) > bytes_max:
        raise Invalid(f"longer than {bytes_max} bytes", field=path)
    if "\0" in text:
        raise Invalid("a NUL character is not allowed", field=path)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise Invalid("not valid UTF-8", field=path) from None
    if size > bytes_max:
        raise Invalid(f"longer than {bytes_max} bytes", field=path)


def check_integer(value: int, path: str, what: str, *, maximum: int = INTEGER_MAX) -> None:
    """Raise `Invalid` unless `value` is 0 to `maximum`."""
    if value < 0:
        raise Invalid(f"{what} cannot be negative: {value}", field=path)
    if value > maximum:
        raise Invalid(f"{what} can be at most {maximum}", field=path)


def check_duration(
    value: float, path: str, what: str, *, minimum: float = 0.0, maximum: float = DURATION_S_MAX
) -> None:
    """Raise `Invalid` unless `value` is a number of seconds in these limits."""
    if not math.isfinite(value):
        raise Invalid(f"{what} is not a number of seconds", field=path)
    if not minimum <= value <= maximum:
        raise Invalid(f"{what} is {minimum:g} to {maximum:g} seconds, not {value:g}", field=path)


def check_size(spec: msgspec.Struct) -> None:
    """Raise `Invalid` if the whole spec is too large for an entry."""
    # MessagePack measures within a few per cent of what CBOR will take.
    size = len(msgspec.msgpack.encode(spec))
    if size > SPEC_BYTES_MAX:
        raise Invalid(f"the spec takes {size} bytes; at most {SPEC_BYTES_MAX} are allowed", field="$")
