"""What a filter that turned nodes away has to say, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from swarmd.model import FilterVerdict, Platform
from swarmd.scheduler.filters import lacking, universe_of
from swarmd.scheduler.masks import lowest, numbers_of
from swarmd.scheduler.nodes import NodeTable
from swarmd.scheduler.ports import HostPort
from swarmd.scheduler.profile import Profile

EXAMPLES_MAX: Final = 5


def verdict(table: NodeTable, profile: Profile, name: str, mask: int) -> FilterVerdict:
    """The filter's, for `mask`, the nodes that it turned away."""
    examples: list[str] = []
    left = mask
    while left and len(examples) < EXAMPLES_MAX:
        examples.append(table.infos[lowest(left)].id)
        left &= left - 1
    return FilterVerdict(
        filter=name, nodes=mask.bit_count(), detail=_detail(table, profile, name, mask), examples=tuple(examples)
    )


def reasons_of(table: NodeTable, profile: Profile, mask: int) -> str:
    """Why nodes are not available, such as `1 down, 1 drained`."""
    reasons = table.reasons
    if profile.node_id:
        reasons = Counter([table.infos[number].reason for number in numbers_of(mask)])
    return ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items(), key=lambda item: (-item[1], item[0])))


def show(kind: str, amount: int) -> str:
    """An amount of a resource, as people write it."""
    amount = max(0, amount)
    if kind == "cpu":
        return f"{amount / 1e9:g} CPU"
    if kind == "memory":
        return f"{amount / (1 << 20):g} MiB of memory"
    return f"{amount} {kind}"


def show_port(port: HostPort) -> str:
    """Such as `80/tcp`."""
    return f"{port[1]}/{port[0].name.lower()}"


def show_platforms(platforms: Iterable[Platform]) -> str:
    """Such as `linux/amd64 or linux/arm64`."""
    return " or ".join(f"{one.os or 'any'}/{one.architecture or 'any'}" for one in platforms)


def needs_of(profile: Profile) -> dict[str, int]:
    """Resource -> how much a task reserves of it."""
    needs = {"cpu": profile.nano_cpus, "memory": profile.memory_bytes}
    return {kind: amount for kind, amount in needs.items() if amount} | {
        one.kind: one.amount for one in profile.generic
    }


def _detail(table: NodeTable, profile: Profile, name: str, mask: int) -> str:
    match name:
        case "ready":
            return reasons_of(table, profile, mask)
        case "software":
            return f"without {', '.join(profile.features)}"
        case "resources":
            return _resources(table, profile, mask)
        case "plugin":
            return ", ".join(f"needs the {type.lower()} driver {plugin}" for type, plugin in profile.plugins)
        case "constraint":
            universe = universe_of(table, profile)
            met = [(one, (table.meeting(one) & universe).bit_count()) for one in profile.constraints]
            return ", ".join(f"{one} on {count} of {_nodes(universe.bit_count())}" for one, count in met)
        case "platform":
            return f"needs {show_platforms(profile.platforms)}; {_platforms(table, mask)}"
        case "host_port":
            return _ports(table, profile, mask)
        case _:
            return f"at most {profile.max_replicas} of the service on a node"


def _resources(table: NodeTable, profile: Profile, mask: int) -> str:
    needs = needs_of(profile)
    said = []
    for kind, short in lacking(table, profile, mask).items():
        info, free = table.largest_free(kind, short)
        has = f"largest free {show(kind, free)} on {info.name}" if free > 0 else "none is free"
        said.append(f"needs {show(kind, needs[kind])}, {has}")
    return "; ".join(said)


def _platforms(table: NodeTable, mask: int) -> str:
    found = [
        (platform, (nodes & mask).bit_count())
        for platform, nodes in table.traits.platforms.masks.items()
        if nodes & mask
    ]
    found.sort(key=lambda item: (-item[1], item[0].os, item[0].architecture))
    said = [
        f"{_nodes(count)} {show_platforms((platform,)) if platform != Platform() else 'of unknown platform'}"
        for platform, count in found[:EXAMPLES_MAX]
    ]
    return ", ".join(said)


def _ports(table: NodeTable, profile: Profile, mask: int) -> str:
    said = []
    for port in profile.host_ports:
        taken = table.ports.holding((port,)) & mask
        if taken:
            info = table.infos[lowest(taken)]
            holders = [holder or "a task without a service" for holder in table.ports.holders(port, info.number)]
            said.append(
                f"port {show_port(port)} on {_nodes(taken.bit_count())}, on {info.name} by {', '.join(holders)}"
            )
    return "; ".join(said)


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"
