"""Why a task fits nowhere: in a line, one clause a filter, most nodes first (reference orchestration 7.4), and with
numbers, beside the smallest change that would place it.

The clauses are SwarmKit's, followed by what its users miss: which condition, which resource. The line costs a few masks
and is made at every try; the numbers are made only for tasks that are to be told.
"""

from __future__ import annotations

from swarmd.model import PlacementFailure
from swarmd.scheduler.details import reasons_of, verdict
from swarmd.scheduler.filters import READY, Filter, filters_of, lacking, universe_of
from swarmd.scheduler.nodes import NodeTable
from swarmd.scheduler.profile import Profile
from swarmd.scheduler.remedy import smallest_change

Away = list[tuple[Filter, int]]
"""Filters with the nodes that each was the first to turn away."""


def explain(table: NodeTable, profile: Profile, service_id: str) -> str:
    """Such as `no suitable node (2 nodes not available for new tasks: 1 down, 1 drained; insufficient resources on 1
    node: memory)`. Costs a few masks, and one exact test for each node in a request's octave."""
    if profile.node_id and not universe_of(table, profile):
        return "no suitable node (the node this task is bound to does not exist)"
    clauses = [_clause(table, profile, one.name, mask) for one, mask in turned_away(table, profile, service_id)]
    return f"no suitable node ({'; '.join(clauses)})" if clauses else "no suitable node"


def failure_of(table: NodeTable, profile: Profile, service_id: str) -> PlacementFailure:
    """The same with numbers, some of the nodes by id, and the fix."""
    universe = universe_of(table, profile)
    return PlacementFailure(
        nodes=universe.bit_count(),
        verdicts=tuple(
            verdict(table, profile, one.name, mask) for one, mask in turned_away(table, profile, service_id)
        ),
        fix=smallest_change(table, profile, service_id),
    )


def turned_away(table: NodeTable, profile: Profile, service_id: str) -> Away:
    """Most nodes first; of equally many the earlier filter."""
    left = universe_of(table, profile)
    away: Away = []
    for one in (READY, *filters_of(profile)):
        passing = one.narrow_exactly(table, profile, service_id, left)
        if passing != left:
            away.append((one, left & ~passing))
        left = passing
    away.sort(key=lambda item: -item[1].bit_count())
    return away


def _clause(table: NodeTable, profile: Profile, name: str, mask: int) -> str:
    nodes = _nodes(mask.bit_count())
    match name:
        case "ready":
            return f"{nodes} not available for new tasks: {reasons_of(table, profile, mask)}"
        case "software":
            return f"software too old for this service on {nodes}"
        case "resources":
            return f"insufficient resources on {nodes}: {', '.join(lacking(table, profile, mask))}"
        case "plugin":
            return f"missing plugin on {nodes}"
        case "constraint":
            return f"scheduling constraints not satisfied on {nodes}"
        case "platform":
            return f"unsupported platform on {nodes}"
        case "host_port":
            return f"host-mode port already in use on {nodes}"
        case _:
            return "max replicas per node limit exceed"


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"
