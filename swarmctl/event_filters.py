"""`--filter KEY=VALUE` of `events`, as entries of a watch: the same key again is "or", another key is "and"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from itertools import product
from math import prod
from typing import Any, Final

from swarmctl.client import Client
from swarmctl.resolve import find_node, find_service
from swarmctl.values import parse_integer
from swarmd.errors import Invalid, NotFound
from swarmd.model import Membership, NodeState, Role, TaskState, is_id
from swarmd.wire.watch import KINDS, WatchEntry

COMBINATIONS_MAX: Final = 64
"""As many entries as a watch may have."""

Option = dict[str, Any]
"""What one `KEY=VALUE` says of an entry."""

_SAME: Final = {"type": "kind", "event": "action", "service_id": "service", "node_id": "node"}
_OF_TASKS: Final = frozenset({"service", "node", "slot", "desired-state"})
_OF_NODES: Final = frozenset({"hostname", "role", "membership", "state"})


def parse_filters(texts: Sequence[str], client: Client) -> tuple[WatchEntry, ...]:
    """The entries that these filters mean; none without filters. Services and nodes are found by name.

    Raises `Invalid` naming the filter, `NotFound`.
    """
    options: dict[str, list[Option]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = _SAME.get(key, key)
        if not equals or not value:
            raise _malformed(text)
        options.setdefault(key, []).append(_option(key, value, text, client))
    if not options:
        return ()
    if "kind" not in options:
        options["kind"] = [{"kind": kind} for kind in _kinds_of(options.keys())]
    if prod(map(len, options.values())) > COMBINATIONS_MAX:
        raise Invalid(f"--filter: more than {COMBINATIONS_MAX} combinations", hint="name the kind, or fewer values")
    return tuple(WatchEntry(**_merged(choice)) for choice in product(*options.values()))


def _kinds_of(keys: Any) -> Sequence[str]:
    """The kinds that have these filters."""
    if keys & _OF_TASKS:
        return ("task",)
    return ("node",) if keys & _OF_NODES else sorted(KINDS)


def _merged(choice: Sequence[Option]) -> Option:
    return {name: value for option in choice for name, value in option.items()}


def _option(key: str, value: str, text: str, client: Client) -> Option:
    match key:
        case "kind":
            return {"kind": value.lower().replace("-", "_")}
        case "action":
            return {"actions": (value.lower(),)}
        case "id":
            return {"id" if is_id(value) else "id_prefix": value}
        case "name":
            return {"name_prefix": value[:-1]} if value.endswith("*") and len(value) > 1 else {"name": value}
        case "hostname":
            return {"hostname": value}
        case "service":
            return {"service_id": _id(value, lambda: find_service(client, value).service.id)}
        case "node":
            return {"node_id": _id(value, lambda: find_node(client, value).node.id)}
        case "slot":
            return {"slot": parse_integer(value, "--filter slot")}
    words: dict[str, type[IntEnum]] = {
        "role": Role,
        "membership": Membership,
        "state": NodeState,
        "desired-state": TaskState,
    }
    if key not in words:
        raise _malformed(text)
    return {key.replace("-", "_"): _word(words[key], value, text)}


def _id(reference: str, find: Callable[[], str]) -> str:
    """Events of what is gone already may be asked for by its id."""
    try:
        return find()
    except NotFound:
        if is_id(reference):
            return reference
        raise


def _word(words: type[IntEnum], value: str, text: str) -> IntEnum:
    try:
        return words[value.upper()]
    except KeyError:
        raise Invalid(
            f'--filter: "{text}" is not understood', hint="one of " + ", ".join(word.name.lower() for word in words)
        ) from None


def _malformed(text: str) -> Invalid:
    return Invalid(
        f'--filter: "{text}" is not understood',
        hint="KEY=VALUE; keys are kind, action, id, name, service, node, slot, desired-state, hostname, role, "
        "membership, state",
    )
