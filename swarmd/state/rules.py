"""What must hold between extensions and resources. The same at apply, on every replica, as in a writer's transaction.

Names are unique by `Index.is_unique`; everything else that one object may not do to another stands here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Protocol, TypeVar, cast

from swarmd.errors import AlreadyExists, FailedPrecondition, Invalid, SwarmError
from swarmd.model import Extension, Resource, StoredObject
from swarmd.state.indexes import AnyIndex
from swarmd.state.keys import fold, name_of
from swarmd.state.tables import Rows, Tables

O = TypeVar("O", bound=StoredObject)  # noqa: E741

RESERVED_KINDS: Final = frozenset(
    {
        *("node", "service", "task", "network", "cluster", "secret", "resource", "extension", "config", "volume"),
        "removed_node",
    }
)
"""Kinds that the swarm has itself. Part of what replicas agree on: another one is a new apply rule, with a feature."""
NAMES_MAX: Final = 10
"""Names that a refusal lists."""

Write = tuple[Rows[Any], StoredObject | None, StoredObject | None]
"""(rows, old, new) of one object: `old` None creates, `new` None removes. A bare tuple: a named one costs 0.3 us."""

RULED: Final[frozenset[type]] = frozenset({Extension, Resource})
"""Whose writes are judged here."""


class View(Protocol):
    """The objects as they are, or as they will be."""

    def holders(self, rows: Rows[O], index: AnyIndex[O], key: str) -> Iterable[O]:
        """The objects of `rows` that hold `key`."""


class Afterwards:
    """The extensions and resources as a command leaves them: `writes` are its planned ones."""

    def __init__(self, writes: Mapping[tuple[int, str], Write]) -> None:
        self._writes = writes
        self._written: dict[tuple[str, str], list[StoredObject]] = {}
        for rows, _, new in writes.values():
            if new is not None and type(new) in RULED:
                for index in rows.indexes:
                    self._written.setdefault((index.name, index.key_of(new)), []).append(new)

    def holders(self, rows: Rows[O], index: AnyIndex[O], key: str) -> Iterator[O]:
        """Those that stay first."""
        for id in index.ids(key):
            if (rows.tag, id) not in self._writes:
                yield rows.objects[id]
        yield from cast("list[O]", self._written.get((index.name, key), []))


def broken_rule(tables: Tables, view: View, old: StoredObject | None, new: StoredObject | None) -> SwarmError | None:
    """Why `old` may not become `new` (None: it is not there, it goes); None: it may. `view` shows the state with all of
    a command's writes at apply, and what a transaction has written so far while it is made."""
    if isinstance(new, Extension):
        return _extension_written(old, new)
    if isinstance(new, Resource):
        return _resource_written(tables, view, new)
    if isinstance(old, Extension):
        return _extension_removed(tables, view, old)
    return None


def _extension_written(old: StoredObject | None, new: Extension) -> SwarmError | None:
    if old is not None:
        return FailedPrecondition(
            f"extension {new.annotations.name} cannot be changed: extensions are immutable",
            hint="make another one, with another name",
        )
    if fold(new.annotations.name) in RESERVED_KINDS:
        return AlreadyExists(f"{new.annotations.name!r} is a kind of the swarm's own", field="$.annotations.name")
    return None


def _resource_written(tables: Tables, view: View, new: Resource) -> SwarmError | None:
    if _has_extension(tables, view, new.kind):
        return None
    return Invalid(
        f"no extension is named {new.kind!r}", field="$.kind", hint="a resource's kind is an extension's name"
    )


def _extension_removed(tables: Tables, view: View, old: Extension) -> SwarmError | None:
    name = old.annotations.name
    resources = list(view.holders(tables.resources, tables.resources_by_kind, fold(name)))
    if not resources or _has_extension(tables, view, name, but=old.id):
        return None
    names = sorted(name_of(resource) for resource in resources)
    shown = ", ".join(names[:NAMES_MAX]) + (f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else "")
    return FailedPrecondition(f"extension {name} has resources: {shown}", hint="remove them first")


def _has_extension(tables: Tables, view: View, kind: str, *, but: str = "") -> bool:
    if not kind:
        return False
    held: Iterable[Any] = view.holders(tables.extensions, tables.extension_names, fold(kind))
    return any(extension.id != but for extension in held)
