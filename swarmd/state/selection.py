"""Which events a watch is about: its entries, judged once, then asked for each event.

An update is told if the new object fits, or else if the old one did: then the object has left, and who keeps a copy
learns to drop it. So (created or updated: keep; left or removed: drop) keeps a copy equal to what fits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from swarmd.errors import Invalid
from swarmd.model import Node, StoredObject, Task
from swarmd.state.command import TYPE_OF_TABLE, Table
from swarmd.state.keys import fold
from swarmd.state.watch import Event, Route
from swarmd.wire.watch import Action, WatchEntry

ENTRIES_MAX: Final = 64

Fits = Callable[[Any], bool]

_ACTIONS: Final = frozenset(Action)
_TABLE_OF_KIND: Final = {table.name.lower(): table for table in TYPE_OF_TABLE}
_EXCLUSIVE: Final = (("id", "id_prefix"), ("name", "name_prefix"))
_OF_NODES: Final = ("hostname", "role", "membership", "state")
_OF_TASKS: Final = ("service_id", "node_id", "slot", "desired_state")


class Selected(NamedTuple):
    """An event that is to be told. `has_left`: an update after which the object no longer fits."""

    event: Event
    action: Action
    has_left: bool = False


class Selection:
    """What the entries of one watch are about. Raises `Invalid` with the path of what is wrong with them."""

    def __init__(self, entries: Sequence[WatchEntry] = ()) -> None:
        if len(entries) > ENTRIES_MAX:
            raise Invalid(f"a watch has at most {ENTRIES_MAX} entries, not {len(entries)}", field="$.entries")
        rules = [_rule(entry, f"$.entries[{position}]") for position, entry in enumerate(entries)]
        rules = rules or [_Rule(table, _ACTIONS, _fits_all, Route(table)) for table in TYPE_OF_TABLE]
        self._rules: dict[Table, list[_Rule]] = {}
        for rule in rules:
            self._rules.setdefault(rule.table, []).append(rule)
        self.routes = tuple(dict.fromkeys(rule.route for rule in rules))
        """Where everything comes by that may fit."""

    def judge(self, event: Event) -> Selected | None:
        """What is to be told of this event; None: nothing."""
        verdict = self.verdict(event.table, event.old, event.new)
        return None if verdict is None else Selected(event, *verdict)

    def verdict(self, table: Table, old: StoredObject | None, new: StoredObject | None) -> tuple[Action, bool] | None:
        """As `judge`, before there is an event: (action, whether the object has left)."""
        rules = self._rules.get(table)
        if rules is None:
            return None
        if new is None:
            return _REMOVED if _fits(rules, Action.REMOVE, old) else None
        if old is None:
            return _CREATED if _fits(rules, Action.CREATE, new) else None
        if _fits(rules, Action.UPDATE, new):
            return _UPDATED
        return _LEFT if _fits(rules, Action.UPDATE, old) else None


class _Rule(NamedTuple):
    table: Table
    actions: frozenset[Action]
    fits: Fits
    route: Route


def _fits(rules: Sequence[_Rule], action: Action, object: StoredObject | None) -> bool:
    for rule in rules:  # noqa: SIM110 - a generator would cost as much as all the rest
        if action in rule.actions and rule.fits(object):
            return True
    return False


_CREATED: Final = (Action.CREATE, False)
_UPDATED: Final = (Action.UPDATE, False)
_LEFT: Final = (Action.UPDATE, True)
_REMOVED: Final = (Action.REMOVE, False)


def _fits_all(object: Any) -> bool:
    return True


# -- judging a request -------------------------------------------------------------------------------------------------
def _rule(entry: WatchEntry, path: str) -> _Rule:
    table = _table(entry.kind, path)
    actions = frozenset(_action(word, f"{path}.actions[{at}]") for at, word in enumerate(entry.actions)) or _ACTIONS
    _refuse_conflicts(entry, table, path)
    tests = _tests(entry)
    if not tests:
        return _Rule(table, actions, _fits_all, Route(table))
    if len(tests) == 1:
        return _Rule(table, actions, tests[0], _route(entry, table))
    return _Rule(table, actions, lambda object: all(fits(object) for fits in tests), _route(entry, table))


def _table(kind: str, path: str) -> Table:
    table = _TABLE_OF_KIND.get(kind)
    if table is None:
        what = f"there is no kind of object {kind!r}" if kind else "no kind of object is named"
        raise Invalid(what, field=f"{path}.kind", hint="one of " + ", ".join(sorted(_TABLE_OF_KIND)))
    return table


def _action(word: str, path: str) -> Action:
    try:
        return Action(word)
    except ValueError:
        raise Invalid(f"there is no action {word!r}", field=path, hint="one of " + ", ".join(Action)) from None


def _refuse_conflicts(entry: WatchEntry, table: Table, path: str) -> None:
    for one, other in _EXCLUSIVE:
        if getattr(entry, one) and getattr(entry, other):
            raise Invalid(f"conflicting filters: {one} and {other}", field=f"{path}.{other}", hint="give one of them")
    for filters, owner in ((_OF_NODES, Table.NODE), (_OF_TASKS, Table.TASK)):
        for name in filters:
            if table is not owner and getattr(entry, name) not in ("", None):
                raise Invalid(f"a {entry.kind} has no {name} to filter by", field=f"{path}.{name}")
    if entry.slot is not None and not entry.service_id:
        raise Invalid("a slot is one of a service", field=f"{path}.slot", hint="give service_id too")


def _tests(entry: WatchEntry) -> list[Fits]:
    """One for each filter that was given."""
    tests: list[Fits] = [
        _equals(attribute, value)
        for attribute, value in (
            ("id", entry.id),
            ("service_id", entry.service_id),
            ("node_id", entry.node_id),
            ("slot", entry.slot),
            ("role", entry.role),
            ("desired_state", entry.desired_state),
        )
        if value not in ("", None)
    ]
    if entry.id_prefix:
        tests.append(lambda object: object.id.startswith(entry.id_prefix))
    if entry.name:
        wanted = fold(entry.name)
        tests.append(lambda object: wanted in _names(object))
    if entry.name_prefix:
        prefix = fold(entry.name_prefix)
        tests.append(lambda object: any(name.startswith(prefix) for name in _names(object)))
    if entry.hostname:
        hostname = fold(entry.hostname)
        tests.append(lambda node: fold(node.description.hostname) == hostname)
    if entry.membership is not None:
        tests.append(lambda node: node.spec.membership is entry.membership)
    if entry.state is not None:
        tests.append(lambda node: node.status.state is entry.state)
    return tests


def _equals(attribute: str, value: Any) -> Fits:
    return lambda object: getattr(object, attribute) == value


def _names(object: StoredObject) -> tuple[str, ...]:
    """What users call it, folded; nothing for what has no name."""
    if isinstance(object, Task):
        return (fold(object.name),)
    name: str = getattr(getattr(object, "spec", None), "name", "")
    names = (name, object.description.hostname) if isinstance(object, Node) else (name,)
    return tuple([fold(name) for name in names if name])


def _route(entry: WatchEntry, table: Table) -> Route:
    """The narrowest by which all that fits comes by."""
    for field, key in (("id", entry.id), ("node_id", entry.node_id), ("service_id", entry.service_id)):
        if key:
            return Route(table, field, key)
    return Route(table)
