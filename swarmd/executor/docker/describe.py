"""What an engine says of its machine (`GET /info`), in the model's words. Pure; what is not as expected is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from swarmd.model import GenericResource, Plugin

_PLUGIN_TYPES = ("Volume", "Network", "Log")


def read_plugins(info: Mapping[str, Any]) -> tuple[Plugin, ...]:
    """The engine's volume, network and log plugins, sorted."""
    plugins = info.get("Plugins") or {}
    found = {(type_, str(name)) for type_ in _PLUGIN_TYPES for name in plugins.get(type_) or ()}
    return tuple(Plugin(type=type_, name=name) for type_, name in sorted(found))


def read_generic_resources(info: Mapping[str, Any]) -> tuple[GenericResource, ...]:
    """What the engine's own `node-generic-resources` say, by kind."""
    amounts: dict[str, int] = {}
    names: dict[str, list[str]] = {}
    for kind, value in _generic_specs(info):
        if isinstance(value, int):
            amounts[kind] = value
        else:
            names.setdefault(kind, []).append(str(value))
    found = [GenericResource(kind=kind, amount=amount) for kind, amount in amounts.items() if kind not in names]
    found += [GenericResource(kind=kind, names=tuple(members)) for kind, members in names.items()]
    return tuple(sorted(found, key=lambda resource: resource.kind))


def _generic_specs(info: Mapping[str, Any]) -> Iterator[tuple[str, int | str]]:
    for entry in info.get("GenericResources") or ():
        spec = entry.get("DiscreteResourceSpec") or entry.get("NamedResourceSpec") or {}
        kind, value = str(spec.get("Kind", "")), spec.get("Value")
        if kind and isinstance(value, int | str) and not isinstance(value, bool):
            yield kind, value
