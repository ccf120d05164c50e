"""From an applied command to its audit record. Pure: equal commands on equal states give equal records.

Secrets are blank by the same list as at every other door (`control_api.secret_fields`); long values are cut.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from enum import Enum
from functools import cache
from typing import Any, Final

import msgspec

from swarmd.manager.audit.counted import REQUESTERS, counts, shown_fields
from swarmd.manager.control_api.secret_fields import ASSIGNMENTS, is_secret, without_value
from swarmd.model import Node, StoredObject
from swarmd.state.command import TABLE_OF_TYPE, Command, Create, Outcome, Remove, Table, Update, Verdict
from swarmd.state.history import Change
from swarmd.state.keys import name_of
from swarmd.wire.audit import APPLIED, AuditedChange, AuditRecord

REDACTED: Final = "<redacted>"
CHANGES_MAX: Final = 100
"""Objects that a record names."""
FIELDS_MAX: Final = 100
"""Fields of one object whose changes are told."""
TEXT_MAX: Final = 200
"""Characters of a value, of a path, of a reason."""
ITEMS_MAX: Final = 20
"""Items of a list that are shown."""
WEIGHT_MAX: Final = 32 << 10
"""Characters that all fields of a record hold together, about; beyond it, objects are named without fields."""

_NAMES: Final = {table: table.name.lower() for table in Table}

Fields = dict[str, tuple[Any, Any]]


def derive(index: int, command: Command, outcome: Outcome, writes: Collection[Change]) -> AuditRecord | None:
    """The record of entry `index`, without its chain; None if it does not count."""
    actor = command.actor
    if outcome.verdict is not Verdict.APPLIED:
        if not actor.startswith(REQUESTERS):
            return None  # the leader's own work is decided anew by whoever leads
        return _record(index, command, _result(outcome), [_intended(c) for c in command.changes if _is_write(c)])
    weight = 0
    changes: list[AuditedChange] = []
    for rows, old, new in writes:
        if not counts(actor, rows.table, old, new):
            continue
        has_room = len(changes) < CHANGES_MAX and weight < WEIGHT_MAX
        change = _change(actor, rows.table, old, new, with_fields=has_room)
        weight += _weight(change.fields)
        changes.append(change)
    return _record(index, command, APPLIED, changes) if changes else None


def _record(index: int, command: Command, result: str, changes: list[AuditedChange]) -> AuditRecord:
    left_out = len(changes) - CHANGES_MAX
    return AuditRecord(
        index=index,
        at=command.at,
        actor=_shortened(command.actor),
        result=result,
        changes=tuple(changes[:CHANGES_MAX]),
        what=f"{left_out} more objects" if left_out > 0 else "",
    )


def _result(outcome: Outcome) -> str:
    word = outcome.verdict.name.lower().replace("_", " ")
    if outcome.verdict is Verdict.DUPLICATE:
        return f"{word} of entry {outcome.index}"
    return f"{word}: {_shortened(outcome.reason)}" if outcome.reason else word


def _is_write(change: Any) -> bool:
    return isinstance(change, Create | Update | Remove)


def _intended(change: Any) -> AuditedChange:
    """A change that did not take place: what it was about, no more."""
    if isinstance(change, Remove):
        return AuditedChange(action="remove", kind=_NAMES[change.table], id=change.id)
    object = change.object
    action = "create" if isinstance(change, Create) else "update"
    return AuditedChange(action=action, kind=_NAMES[TABLE_OF_TYPE[type(object)]], id=object.id, name=_name(object))


def _change(
    actor: str, table: Table, old: StoredObject | None, new: StoredObject | None, *, with_fields: bool
) -> AuditedChange:
    object = new if new is not None else old
    assert object is not None
    fields: Fields = {}
    if new is not None and with_fields:
        _compare_fields(shown_fields(actor, new), old, new, "", fields)
    action = "create" if old is None else "remove" if new is None else "update"
    return AuditedChange(action=action, kind=_NAMES[table], id=object.id, name=_name(object), fields=fields)


def _name(object: StoredObject) -> str:
    if isinstance(object, Node) and object.spec.name:
        return _shortened(object.spec.name)
    return _shortened(name_of(object))


# -- differences -------------------------------------------------------------------------------------------------------
def _compare_fields(names: tuple[str, ...], old: Any, new: Any, path: str, found: Fields) -> None:
    """Add what is different between two structs of one type; `old` None: what `new` has beside its defaults."""
    type_ = type(new)
    for name in names:
        before, after = getattr(old, name, None), getattr(new, name)
        if before == after or (old is None and _says_nothing(type_, name, after)):
            continue
        below = f"{path}.{name}" if path else name
        if is_secret(type_, name, after) or is_secret(type_, name, before):
            _note(found, below, _blanked(before), _blanked(after))
        elif (type_, name) in ASSIGNMENTS:
            _note(found, below, _names_of(before), _names_of(after))
        else:
            _compare(before, after, below, found)


def _compare(before: Any, after: Any, path: str, found: Fields) -> None:
    if isinstance(after, msgspec.Struct) and (before is None or type(before) is type(after)):
        _compare_fields(after.__struct_fields__, before, after, path, found)
    elif isinstance(after, dict) and isinstance(before, dict | None):
        for key in sorted({*(before or ()), *after}, key=str):
            old, new = (before or {}).get(key), after.get(key)
            if old != new:
                _compare(old, new, f"{path}[{key}]", found)
    elif _holds_structs(before) or _holds_structs(after):
        _compare_items(before or (), after or (), path, found)
    else:
        _note(found, path, _shown(before), _shown(after))


def _compare_items(before: tuple[Any, ...], after: tuple[Any, ...], path: str, found: Fields) -> None:
    for position in range(max(len(before), len(after))):
        old = before[position] if position < len(before) else None
        new = after[position] if position < len(after) else None
        if old != new:
            _compare(old, new, f"{path}[{position}]", found)
        if len(found) > FIELDS_MAX:
            return


def _holds_structs(value: Any) -> bool:
    return isinstance(value, tuple) and any(isinstance(item, msgspec.Struct | dict | tuple) for item in value)


def _says_nothing(type_: type[msgspec.Struct], name: str, value: Any) -> bool:
    """Whether a new object has this only because it was left as it is."""
    return value == _defaults(type_)[name] or (isinstance(value, dict) and not value)


@cache
def _defaults(type_: type[msgspec.Struct]) -> dict[str, Any]:
    return {field.name: field.default for field in msgspec.structs.fields(type_)}


def _note(found: Fields, path: str, before: Any, after: Any) -> None:
    """Past the bound one entry says that there is more."""
    if len(found) < FIELDS_MAX:
        found[_shortened(path)] = (before, after)
    else:
        found["..."] = (None, "more fields")


# -- values ------------------------------------------------------------------------------------------------------------
def _shown(value: Any) -> Any:
    """A value as plain data, cut. A whole struct is named by its type: what is in it was told when it was made."""
    match value:
        case Enum():
            return value.name.lower()
        case str():
            return _shortened(value)
        case bytes():
            return f"{len(value)} bytes, sha256 {hashlib.sha256(value).hexdigest()}" if value else ""
        case tuple():
            items = [_shown(item) for item in value[:ITEMS_MAX]]
            return [*items, f"and {len(value) - ITEMS_MAX} more"] if len(value) > ITEMS_MAX else items
        case dict():
            return f"{len(value)} entries"
        case msgspec.Struct():
            return type(value).__name__
        case None | bool() | int() | float():
            return value
        case _:
            return type(value).__name__


def _blanked(value: Any) -> Any:
    return REDACTED if value else None


def _names_of(assignments: Any) -> Any:
    return _shown(tuple([without_value(item) for item in assignments or ()]))


def _shortened(text: str) -> str:
    return text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}... ({len(text) - TEXT_MAX} more)"


def _weight(fields: Fields) -> int:
    return sum(
        len(path) + sum(sum(map(len, map(str, v))) if isinstance(v, list) else len(str(v)) for v in values)
        for path, values in fields.items()
    )
