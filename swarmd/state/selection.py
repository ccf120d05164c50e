"""Which events a watch is about: its entries, judged once, then asked for each event.

An update is told if the new object fits, or else if the old one did: then the object has left, and who keeps a copy
learns to drop it. So (created or updated: keep; left or removed: drop) keeps a copy equal to what fits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from swarmd.errors import Invalid
from swarmd.model import Node, Service, StoredObject, TaskSpec
from swarmd.state.command import TYPE_OF_TABLE, Table
from swarmd.state.keys import configs_of, fold, indices_of, name_of, networks_of, secrets_of
from swarmd.state.watch import Event, Route
from swarmd.wire.watch import Action, WatchEntry

ENTRIES_MAX: Final = 64

Fits = Callable[[Any], bool]

_ACTIONS: Final = frozenset(Action)
_TABLE_OF_KIND: Final = {table.name.lower(): table for table in TYPE_OF_TABLE}
_EXCLUSIVE: Final = (("id", "id_prefix"), ("name", "name_prefix"), ("index_value", "index_prefix"))
_ONLY_OF: Final = {
    **dict.fromkeys(("hostname", "role", "membership", "state"), (Table.NODE,)),
    **dict.fromkeys(("service_id", "node_id", "slot", "desired_state"), (Table.TASK,)),
    **dict.fromkeys(("network_id", "secret_id", "config_id"), (Table.SERVICE, Table.TASK)),
    "resource_kind": (Table.RESOURCE,),
}
"""Filters that not every kind has."""
_NEEDS: Final = {"slot": "service_id", "index_value": "index", "index_prefix": "index"}


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
        rules = rules or [_rule(WatchEntry(kind=kind), "$") for kind in _TABLE_OF_KIND]
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
        if _is_given(entry, one) and _is_given(entry, other):
            raise Invalid(f"conflicting filters: {one} and {other}", field=f"{path}.{other}", hint="give one of them")
    for name, tables in _ONLY_OF.items():
        if table not in tables and _is_given(entry, name):
            raise Invalid(f"a {entry.kind} has no {name} to filter by", field=f"{path}.{name}")
    for name, needed in _NEEDS.items():
        if _is_given(entry, name) and not _is_given(entry, needed):
            raise Invalid(f"{name} says nothing without {needed}", field=f"{path}.{name}", hint=f"give {needed} too")


def _is_given(entry: WatchEntry, name: str) -> bool:
    return getattr(entry, name) not in ("", None)


def _tests(entry: WatchEntry) -> list[Fits]:
    """One for each filter that was given."""
    tests = [
        _equals(name, getattr(entry, name))
        for name in ("id", "service_id", "node_id", "slot", "role", "desired_state")
        if _is_given(entry, name)
    ]
    tests += [make(entry) for name, make in _TESTS.items() if _is_given(entry, name)]
    if _TABLE_OF_KIND[entry.kind] is Table.SECRET:
        tests.append(lambda secret: not secret.internal)  # shown in no list, and here neither
    return tests


def _equals(attribute: str, value: Any) -> Fits:
    return lambda object: getattr(object, attribute) == value


def _name(entry: WatchEntry) -> Fits:
    wanted = fold(entry.name)
    return lambda object: wanted in _names(object)


def _name_prefix(entry: WatchEntry) -> Fits:
    prefix = fold(entry.name_prefix)
    return lambda object: any(name.startswith(prefix) for name in _names(object))


def _names(object: StoredObject) -> tuple[str, ...]:
    """What users call it, folded; nothing for what has no name."""
    names = (object.spec.name, name_of(object)) if isinstance(object, Node) else (name_of(object),)
    return tuple([fold(name) for name in names if name])


def _hostname(entry: WatchEntry) -> Fits:
    hostname = fold(entry.hostname)
    return lambda node: fold(node.description.hostname) == hostname


def _resource_kind(entry: WatchEntry) -> Fits:
    kind = fold(entry.resource_kind)
    return lambda resource: fold(resource.kind) == kind


def _index(entry: WatchEntry) -> Fits:
    name, value, prefix = entry.index, entry.index_value, entry.index_prefix

    def fits(object: StoredObject) -> bool:
        values = [kept.value for kept in indices_of(object) if kept.key == name]
        return value in values if value else any(kept.startswith(prefix) for kept in values)

    return fits


def _template(object: Any) -> TaskSpec:
    """What a task is made of, or a service's tasks are."""
    spec: TaskSpec = object.spec.task if isinstance(object, Service) else object.spec
    return spec


_TESTS: Final[dict[str, Callable[[WatchEntry], Fits]]] = {
    "id_prefix": lambda entry: lambda object: object.id.startswith(entry.id_prefix),
    "name": _name,
    "name_prefix": _name_prefix,
    "hostname": _hostname,
    "membership": lambda entry: lambda node: node.spec.membership is entry.membership,
    "state": lambda entry: lambda node: node.status.state is entry.state,
    "network_id": lambda entry: lambda object: entry.network_id in networks_of(_template(object)),
    "secret_id": lambda entry: lambda object: entry.secret_id in secrets_of(_template(object)),
    "config_id": lambda entry: lambda object: entry.config_id in configs_of(_template(object)),
    "resource_kind": _resource_kind,
    "index": _index,
}
"""Filter -> what it asks of an object. `index_value` and `index_prefix` are the index's."""


def _route(entry: WatchEntry, table: Table) -> Route:
    """The narrowest by which all that fits comes by."""
    for field, key in (("id", entry.id), ("node_id", entry.node_id), ("service_id", entry.service_id)):
        if key:
            return Route(table, field, key)
    return Route(table)
