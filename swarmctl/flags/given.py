"""What "not given" means: every option's default. Lists are repeated options; one that is empty alone means none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

Text = str | None
Texts = list[str] | None
Switch = bool | None


def is_given(value: Any) -> bool:
    """Whether the option was on the command line."""
    return value is not None and value != [] and value != ()


def any_given(flags: msgspec.Struct) -> bool:
    """Whether one of the options was, or of those in the Structs among them."""
    values = [getattr(flags, name) for name in flags.__struct_fields__]
    return any(any_given(value) if isinstance(value, msgspec.Struct) else is_given(value) for value in values)


def only_given(**values: Any) -> dict[str, Any]:
    """Those that were."""
    return {name: value for name, value in values.items() if value is not None}


def items_of(texts: Texts) -> Sequence[str]:
    """A list as it was given; a single empty text is how one says that there is to be nothing."""
    return () if texts is None or list(texts) == [""] else tuple(texts)


def edited(
    present: Iterable[T], *, whole: Sequence[T] | None, add: Iterable[T], drop: Callable[[T], bool]
) -> tuple[T, ...]:
    """The list: replaced by `whole` if that was given, without what is to go, then with what is new of `add`."""
    kept = [item for item in (present if whole is None else whole) if not drop(item)]
    for item in add:
        if item not in kept:
            kept.append(item)
    return tuple(kept)
