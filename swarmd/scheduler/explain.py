"""Why a task fits nowhere, as a bounded summary: one clause a filter, most nodes first (reference orchestration 7.4).

The clauses are SwarmKit's, followed by what its users miss: which condition, which resource.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from swarmd.scheduler.masks import numbers_of
from swarmd.scheduler.nodes import NodeInfo, NodeTable
from swarmd.scheduler.profile import Profile
from swarmd.scheduler.room import Room
from swarmd.scheduler.spread import full_of


def explain(table: NodeTable, profile: Profile, service_id: str) -> str:
    """Such as `no suitable node (2 nodes not available for new tasks: 1 down, 1 drained; insufficient resources on 1
    node: memory)`. Costs a few masks, and one exact test for each node in a request's octave."""
    universe = table.everyone
    if profile.node_id:
        info = table.find(profile.node_id)
        if info is None or info.node is None:
            return "no suitable node (the node this task is bound to does not exist)"
        universe &= 1 << info.number
    clauses: list[tuple[int, str]] = []
    left = _unavailable(table, universe, profile, clauses)
    left = _outdated(table, left, profile, clauses)
    left = _short(table, left, profile, clauses)
    if profile.constraints and left:
        clauses.append((left.bit_count(), "placement constraints are not evaluated by this version"))
    elif profile.max_replicas and left & full_of(table, profile, service_id):
        full = left & full_of(table, profile, service_id)
        clauses.append((full.bit_count(), "max replicas per node limit exceed"))
    clauses.sort(key=lambda clause: -clause[0])
    if not clauses:
        return "no suitable node"
    return f"no suitable node ({'; '.join(text for _, text in clauses)})"


def _unavailable(table: NodeTable, universe: int, profile: Profile, clauses: list[tuple[int, str]]) -> int:
    count = (universe & ~table.available).bit_count()
    if count:
        reasons = table.reasons
        if profile.node_id:
            reasons = Counter([table.infos[number].reason for number in numbers_of(universe)])
        detail = ", ".join(
            f"{n} {reason}" for reason, n in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
        )
        clauses.append((count, f"{_nodes(count)} not available for new tasks: {detail}"))
    return universe & table.available


def _outdated(table: NodeTable, left: int, profile: Profile, clauses: list[tuple[int, str]]) -> int:
    able = left
    for name in profile.features:
        able &= table.features.get(name, 0)
    missing = (left & ~able).bit_count()
    if missing:
        clauses.append((missing, f"software too old for this service on {_nodes(missing)}"))
    return able


def _short(table: NodeTable, left: int, profile: Profile, clauses: list[tuple[int, str]]) -> int:
    short_of_cpus = short_of_memory = 0
    if profile.nano_cpus:
        short_of_cpus = _lacking(table, table.cpus, left, profile.nano_cpus, _free_cpus)
    if profile.memory_bytes:
        short_of_memory = _lacking(table, table.memory, left, profile.memory_bytes, _free_memory)
    short = short_of_cpus | short_of_memory
    if short:
        kinds = [kind for kind, mask in (("cpu", short_of_cpus), ("memory", short_of_memory)) if mask]
        clauses.append(
            (short.bit_count(), f"insufficient resources on {_nodes(short.bit_count())}: {', '.join(kinds)}")
        )
    return left & ~short


def _lacking(table: NodeTable, room: Room, left: int, request: int, free: Callable[[NodeInfo], int]) -> int:
    border = left & room.perhaps(request)
    lacking = left & ~room.surely(request) & ~border
    for number in numbers_of(border):
        if free(table.infos[number]) < request:
            lacking |= 1 << number
    return lacking


def _free_cpus(info: NodeInfo) -> int:
    return info.free_cpus


def _free_memory(info: NodeInfo) -> int:
    return info.free_memory


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"
