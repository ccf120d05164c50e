"""One way to print a list and one to print an object, in every format, for every kind of object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from swarmctl.invocation import Invocation, Output
from swarmctl.render.plain import to_json, to_yaml

T = TypeVar("T")


class Kind(msgspec.Struct, Generic[T], frozen=True):
    """How objects of one kind are named and turned into plain data."""

    id_of: Callable[[T], str]
    name_of: Callable[[T], str]
    document_of: Callable[[T], Any]


def show_list(call: Invocation, kind: Kind[T], items: Sequence[T], table: Callable[[bool], str]) -> None:
    """Ids with `-q`, else what `-o` asks for. `table(wide)` is called only if a table is wanted."""
    if call.quiet:
        call.block("".join(f"{kind.id_of(item)}\n" for item in items))
        return
    match call.output:
        case Output.NAME:
            call.block("".join(f"{kind.name_of(item)}\n" for item in items))
        case Output.JSON:
            call.block(to_json([kind.document_of(item) for item in items]))
        case Output.YAML:
            call.block(to_yaml([kind.document_of(item) for item in items]))
        case Output.TABLE | Output.WIDE:
            call.block(table(call.output is Output.WIDE))


def show_one(call: Invocation, kind: Kind[T], item: T, text: Callable[[], str]) -> None:
    """The id with `-q`, else what `-o` asks for; `text()` is called only if that is a text for humans."""
    if call.quiet:
        call.line(kind.id_of(item))
        return
    match call.output:
        case Output.NAME:
            call.line(kind.name_of(item))
        case Output.JSON:
            call.block(to_json(kind.document_of(item)))
        case Output.YAML:
            call.block(to_yaml(kind.document_of(item)))
        case Output.TABLE | Output.WIDE:
            call.block(text())


def show_changed(call: Invocation, kind: Kind[T], item: T) -> None:
    """After a change: the id, or the object in the format asked for."""
    show_one(call, kind, item, lambda: f"{kind.id_of(item)}\n")
