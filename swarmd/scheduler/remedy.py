"""The smallest change that would place a task: one that makes up for the fewest filters, and of such the least work.

A node that is drained or paused comes before a label, a label before a higher limit of replicas, that before a port to
be freed, that before a smaller reservation; then what takes more than a command: a log driver, a node of another
platform or version, a node that is away. Within one filter the node that lacks least is named, of equal ones the first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from swarmd.model.constraints import ENGINE_LABEL, NODE_LABEL, Constraint, Operator
from swarmd.model.validate import MEMORY_BYTES_MIN, NANO_CPUS_MIN
from swarmd.scheduler.details import needs_of, show, show_platforms, show_port
from swarmd.scheduler.filters import READY, filters_of, lacking, universe_of
from swarmd.scheduler.masks import lowest, numbers_of
from swarmd.scheduler.nodes import NodeTable
from swarmd.scheduler.profile import Profile

Change = tuple[int, str]
"""(how much it asks of people: less is better, what it is)."""

_OPERATORS_CHOICE: Final = ("drained", "paused")
_LEAST: Final = {"cpu": NANO_CPUS_MIN, "memory": MEMORY_BYTES_MIN}
"""The smallest reservations there can be; 1 of other kinds."""


def smallest_change(table: NodeTable, profile: Profile, service_id: str) -> str:
    """In words, naming the node or the figure. Empty if the task would fit now."""
    universe = universe_of(table, profile)
    if not universe:
        return f"bring back node {profile.node_id}" if profile.node_id else f"add a node{_with_needs(profile)}"
    failing = [
        (one, universe & ~one.narrow_exactly(table, profile, service_id, universe))
        for one in (READY, *filters_of(profile))
    ]
    fewest, nodes = fewest_of([mask for _, mask in failing], universe)
    if not fewest:
        return ""
    if fewest > 1:
        nodes = 1 << lowest(nodes)
    changes = [_CHANGES[one.name](table, profile, service_id, nodes & mask) for one, mask in failing if nodes & mask]
    if fewest > 1:
        return " and ".join(text for _, text in changes)
    return min(changes, key=lambda change: change[0])[1]


def fewest_of(masks: list[int], universe: int) -> tuple[int, int]:
    """(the least number of masks that a node of the universe is in, the nodes that are in so many)."""
    exactly = [universe] + [0] * len(masks)
    for mask in masks:
        for count in range(len(masks) - 1, -1, -1):
            exactly[count + 1] |= exactly[count] & mask
            exactly[count] &= ~mask
    return next((count, nodes) for count, nodes in enumerate(exactly) if nodes)


# -- one change a filter: of the nodes of `mask`, all turned away by it ------------------------------------------------
def _ready(table: NodeTable, _profile: Profile, _service_id: str, mask: int) -> Change:
    reasons = [(table.infos[number].reason, table.infos[number].name) for number in numbers_of(mask)]
    for reason, name in reasons:
        if reason in _OPERATORS_CHOICE:
            return 0, f"activate node {name}, which is {reason}"
    reason, name = reasons[0]
    return 8, f"bring back node {name}, which is {reason}, or add a node"


def _constraint(table: NodeTable, profile: Profile, _service_id: str, mask: int) -> Change:
    unmet = [mask & ~table.meeting(one) for one in profile.constraints]
    _, nodes = fewest_of(unmet, mask)
    number = lowest(nodes)
    name = table.infos[number].name
    changes = [_meet(one, name) for one, short in zip(profile.constraints, unmet, strict=True) if short >> number & 1]
    return max(rank for rank, _ in changes), " and ".join(text for _, text in changes)


def _meet(constraint: Constraint, name: str) -> Change:
    key, value, is_equal = constraint.key, constraint.value, constraint.operator is Operator.EQUAL
    if key.startswith(NODE_LABEL):
        label = key[len(NODE_LABEL) :]
        text = (
            f"add label {label}={value} to node {name}" if is_equal else f"take label {label}={value} off node {name}"
        )
        return 1, text
    if key.startswith(ENGINE_LABEL):
        label = key[len(ENGINE_LABEL) :]
        done = "with" if is_equal else "without"
        return 5, f"start the engine of node {name} {done} label {label}={value}"
    if key == "node.role" and value.lower() in ("manager", "worker"):
        is_promotion = (value.lower() == "manager") is is_equal
        return 4, f"{'promote' if is_promotion else 'demote'} node {name}"
    return 4, f"drop the constraint {constraint}"


def _max_replicas(table: NodeTable, _profile: Profile, service_id: str, mask: int) -> Change:
    by_count = table.services[service_id].by_count
    least = min(count for count, nodes in by_count.items() if nodes & mask)
    return 2, f"raise the replicas per node to {least + 1}, or add a node"


def _host_port(table: NodeTable, profile: Profile, _service_id: str, mask: int) -> Change:
    taken = [mask & table.ports.holding((port,)) for port in profile.host_ports]
    _, nodes = fewest_of(taken, mask)
    number = lowest(nodes)
    held = [port for port, nodes in zip(profile.host_ports, taken, strict=True) if nodes >> number & 1]
    return 3, f"free port {' and '.join(show_port(port) for port in held)} on node {table.infos[number].name}"


def _resources(table: NodeTable, profile: Profile, _service_id: str, mask: int) -> Change:
    """Of the nodes that lack the fewest resources, the one with the most of the first that it lacks."""
    short = lacking(table, profile, mask)
    _, nodes = fewest_of(list(short.values()), mask)
    kind = next(kind for kind, without in short.items() if without & nodes)
    info, _ = table.largest_free(kind, short[kind] & nodes)
    needs = needs_of(profile)
    kinds = [kind for kind, without in short.items() if without >> info.number & 1]
    if all(table.free(kind, info.number) >= _LEAST.get(kind, 1) for kind in kinds):
        smaller = " and ".join(show(kind, table.free(kind, info.number)) for kind in kinds)
        return 4, f"lower the reservation to {smaller}, as is free on node {info.name}"
    amounts = " and ".join(show(kind, needs[kind]) for kind in kinds)
    return 6, f"add a node with {amounts} free, or free as much on node {info.name}"


def _plugin(table: NodeTable, profile: Profile, _service_id: str, mask: int) -> Change:
    missing = ", ".join(f"the {type.lower()} driver {plugin}" for type, plugin in profile.plugins)
    return 5, f"install {missing} on node {table.infos[lowest(mask)].name}"


def _platform(_table: NodeTable, profile: Profile, _service_id: str, _mask: int) -> Change:
    return 7, f"add a node of {show_platforms(profile.platforms)}"


def _software(table: NodeTable, _profile: Profile, _service_id: str, mask: int) -> Change:
    return 5, f"upgrade node {table.infos[lowest(mask)].name}"


def _with_needs(profile: Profile) -> str:
    needs = [show(kind, amount) for kind, amount in needs_of(profile).items()]
    return f" with {' and '.join(needs)} free" if needs else ""


_CHANGES: Final[dict[str, Callable[[NodeTable, Profile, str, int], Change]]] = {
    "ready": _ready,
    "software": _software,
    "resources": _resources,
    "plugin": _plugin,
    "constraint": _constraint,
    "platform": _platform,
    "host_port": _host_port,
    "max_replicas": _max_replicas,
}
