"""The options of where tasks may go."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
import typer
from msgspec.structs import replace

from swarmctl.flags.given import Text, Texts, edited, is_given, items_of
from swarmctl.values import malformed, parse_choice, parse_integer
from swarmd.model import Placement, PlacementPreference, PlacementStrategy, Platform

STRATEGIES: Final = {"spread": PlacementStrategy.SPREAD, "binpack": PlacementStrategy.BINPACK}


class PlacementFlags(msgspec.Struct, frozen=True, kw_only=True):
    """Giving a list replaces it whole."""

    constraint: Annotated[
        Texts, typer.Option("--constraint", metavar="EXPR", help="What a node must meet, like node.labels.disk==ssd.")
    ] = None
    placement_pref: Annotated[
        Texts,
        typer.Option("--placement-pref", metavar="spread=LABEL", help="Spread over a label's values, outermost first."),
    ] = None
    replicas_max_per_node: Annotated[
        Text, typer.Option("--replicas-max-per-node", metavar="N", help="Tasks on one node at most; 0: no limit.")
    ] = None
    strategy: Annotated[
        Text, typer.Option("--strategy", metavar="NAME", help="spread over nodes, or binpack onto few.")
    ] = None
    platform: Annotated[
        Texts, typer.Option("--platform", metavar="OS[/ARCH]", help="What it runs on, like linux/amd64.")
    ] = None


class PlacementEdits(msgspec.Struct, frozen=True, kw_only=True):
    """What `update` takes beside them."""

    constraint_add: Annotated[Texts, typer.Option("--constraint-add", metavar="EXPR", help="One constraint more.")] = (
        None
    )
    constraint_rm: Annotated[Texts, typer.Option("--constraint-rm", metavar="EXPR", help="One constraint less.")] = None
    placement_pref_add: Annotated[
        Texts, typer.Option("--placement-pref-add", metavar="spread=LABEL", help="One preference more, innermost.")
    ] = None
    placement_pref_rm: Annotated[
        Texts, typer.Option("--placement-pref-rm", metavar="spread=LABEL", help="One preference less.")
    ] = None


def changed_placement(spec: Placement, flags: PlacementFlags, edits: PlacementEdits) -> Placement:
    """`spec` with what was given. Raises `Invalid` naming the option; what constraints may say is the manager's to
    judge."""
    changes: dict[str, Any] = {
        "constraints": _constraints(spec.constraints, flags, edits),
        "preferences": _preferences(spec.preferences, flags, edits),
    }
    if flags.replicas_max_per_node is not None:
        changes["max_replicas"] = parse_integer(flags.replicas_max_per_node, "--replicas-max-per-node")
    if flags.strategy is not None:
        changes["strategy"] = parse_choice(flags.strategy, STRATEGIES, "--strategy")
    if is_given(flags.platform):
        changes["platforms"] = tuple(_platform(text) for text in items_of(flags.platform))
    return replace(spec, **changes)


def _constraints(present: tuple[str, ...], flags: PlacementFlags, edits: PlacementEdits) -> tuple[str, ...]:
    gone = {_squeezed(text) for text in edits.constraint_rm or ()}
    held = {_squeezed(text) for text in present} - gone
    return edited(
        present,
        whole=items_of(flags.constraint) if is_given(flags.constraint) else None,
        add=[text for text in edits.constraint_add or () if _squeezed(text) not in held],
        drop=lambda text: _squeezed(text) in gone,
    )


def _preferences(
    present: tuple[PlacementPreference, ...], flags: PlacementFlags, edits: PlacementEdits
) -> tuple[PlacementPreference, ...]:
    gone = [_preference(text, "--placement-pref-rm") for text in edits.placement_pref_rm or ()]
    whole = None
    if is_given(flags.placement_pref):
        whole = [_preference(text, "--placement-pref") for text in items_of(flags.placement_pref)]
    added = [_preference(text, "--placement-pref-add") for text in edits.placement_pref_add or ()]
    return edited(present, whole=whole, add=added, drop=lambda preference: preference in gone)


def _preference(text: str, option: str) -> PlacementPreference:
    strategy, equals, descriptor = text.partition("=")
    if strategy.strip() != "spread" or not equals or not descriptor.strip():
        raise malformed(text, option, "spread=node.labels.KEY or spread=engine.labels.KEY")
    return PlacementPreference(spread=descriptor.strip())


def _platform(text: str) -> Platform:
    os, slash, architecture = text.partition("/")
    if not os or "/" in architecture or (slash and not architecture):
        raise malformed(text, "--platform", "OS or OS/ARCHITECTURE, like linux/amd64")
    return Platform(os=os.lower(), architecture=architecture)


def _squeezed(text: str) -> str:
    """Blanks around the operator do not make another constraint."""
    return "".join(text.split())
