"""Where tasks may go, what they need of a node, and why they fit nowhere."""

from __future__ import annotations

from enum import IntEnum

import msgspec


class Platform(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """`architecture` as in `uname -m`, `os` in lower case."""

    architecture: str = ""
    os: str = ""


class GenericResource(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """Something that nodes have and tasks take: `amount` of a kind, or members of a set by name (`amount` is 0)."""

    kind: str
    amount: int = 0
    names: tuple[str, ...] = ()


class PlacementStrategy(IntEnum):
    """Whether tasks are spread over nodes or packed onto few of them."""

    SPREAD = 0
    BINPACK = 1


class PlacementPreference(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """Spread evenly over the values of a label: `node.labels.KEY` or `engine.labels.KEY`."""

    spread: str


class Placement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Where a task may go. All constraints must hold, one of the platforms must match; preferences are a tree, first
    level first; `max_replicas` is a limit per node (0: none)."""

    constraints: tuple[str, ...] = ()
    max_replicas: int = 0
    preferences: tuple[PlacementPreference, ...] = ()
    platforms: tuple[Platform, ...] = ()
    strategy: PlacementStrategy = PlacementStrategy.SPREAD


class Plugin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Something that the node's engine can do: `type` is Volume, Network or Log."""

    type: str
    name: str


class FilterVerdict(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """Nodes that one filter of the scheduler turned away: how many, up to five of them by id, and the numbers."""

    filter: str
    nodes: int = 0
    detail: str = ""
    examples: tuple[str, ...] = ()


class PlacementFailure(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """Why a task fits nowhere: of `nodes` looked at, which filter turned away how many, most first; and the smallest
    change that would place it, in words (empty: none was found)."""

    nodes: int = 0
    verdicts: tuple[FilterVerdict, ...] = ()
    fix: str = ""
