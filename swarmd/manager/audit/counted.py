"""Which changes count: the one table of what the audit trail tells of. Pure, and the same on every manager.

What somebody asked for counts whole. Of what the swarm does by itself only that counts which gives or takes power, or
what a user had decided: placement, observed states and liveness are thousands of entries a second, and no decisions.
"""

from __future__ import annotations

from typing import Any, Final

from swarmd.model import StoredObject, Task
from swarmd.state.command import TABLE_OF_TYPE, Command, Create, Remove, Table, Update

OPERATOR: Final = "operator@"
REQUESTERS: Final = (OPERATOR, "node:", "anonymous")
"""Beginnings of actors who asked for something from outside: their refused changes count too. Nodes and anonymous
callers reach the log through the CA alone: joins and renewals."""

NOTHING: Final[frozenset[str]] = frozenset()
COUNTED: Final[dict[Table, frozenset[str]]] = {
    Table.NODE: frozenset({"spec", "role", "certificate"}),
    Table.SERVICE: frozenset({"spec", "previous_spec"}),
    Table.TASK: NOTHING,
    Table.NETWORK: frozenset({"spec"}),
    Table.CLUSTER: frozenset({"spec", "root_ca", "feature_level", "unlock_key", "payload_keys"}),
    Table.SECRET: frozenset({"spec", "sealed"}),
    Table.RESOURCE: frozenset({"annotations", "kind", "payload"}),
    Table.EXTENSION: frozenset({"annotations", "description"}),
    Table.CONFIG: frozenset({"spec"}),
    Table.VOLUME: frozenset({"spec"}),
    Table.REMOVED_NODE: frozenset({"expires_at"}),
}
"""The fields whose change counts when no operator made it. With `NOTHING`, creating and removing does not count
either."""


_TASK: Final = Table.TASK


def is_operator(actor: str) -> bool:
    """Whether a human asked for it."""
    return actor.startswith(OPERATOR)


def may_count(command: Command) -> bool:
    """A look of some 0.2 us, for the way of every write: False only if nothing in it can count.

    By identity of types: a `match` takes four times as long, and one entry may hold 200 changes.
    """
    if command.actor.startswith(OPERATOR):
        return True
    change: Any
    for change in command.changes:
        kind = type(change)
        if kind is Create or kind is Update:
            if type(change.object) is not Task:
                return True
        elif kind is Remove and change.table is not _TASK:
            return True
    return False


def counts(actor: str, table: Table, old: StoredObject | None, new: StoredObject | None) -> bool:
    """Whether this write counts."""
    if is_operator(actor):
        return True
    fields = COUNTED[table]
    if old is None or new is None:
        return bool(fields)
    return any(getattr(old, field) != getattr(new, field) for field in fields)


def shown_fields(actor: str, object: StoredObject) -> tuple[str, ...]:
    """Which fields of `object` a record tells the changes of: for the swarm itself, those that count."""
    fields = tuple([name for name in object.__struct_fields__ if name not in ("id", "meta")])
    if is_operator(actor):
        return fields
    counted = COUNTED[TABLE_OF_TYPE[type(object)]]
    return tuple([name for name in fields if name in counted])
