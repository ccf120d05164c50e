"""Which nodes may take a task: SwarmKit's filters, in its order (reference orchestration 7.4), as masks.

Each filter narrows what the ones before it left, so that the first that turns a node away speaks for it. Cluster
volumes come last of all once tasks can ask for them; none can today.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import compress
from typing import Final, NamedTuple

from swarmd.scheduler.node_info import NodeInfo
from swarmd.scheduler.nodes import NodeTable
from swarmd.scheduler.profile import Profile
from swarmd.scheduler.room import Room

_NO_ROOM: Final = Room()

Narrow = Callable[[NodeTable, Profile, str, int], int]
"""(nodes, profile, service id, mask) -> those of the mask that pass."""


class Filter(NamedTuple):
    """`narrow` lets more pass than `narrow_exactly` only where `room_for` finds them out."""

    name: str
    narrow: Narrow
    narrow_exactly: Narrow


def filters_of(profile: Profile) -> Iterator[Filter]:
    """Those that apply."""
    return compress(FILTERS, profile.asks)


def universe_of(table: NodeTable, profile: Profile) -> int:
    """All nodes there are, or the one that the task is bound to."""
    if not profile.node_id:
        return table.everyone
    info = table.find(profile.node_id)
    return table.everyone & (1 << info.number) if info is not None else 0


def candidates(table: NodeTable, profile: Profile, service_id: str) -> int:
    """Nodes that may take such a task. Those in a request's own octave still need `room_for`."""
    mask = table.available
    if profile.node_id:
        mask &= universe_of(table, profile)
    for one in filters_of(profile):
        if not mask:
            break
        mask = one.narrow(table, profile, service_id, mask)
    return mask


def room_for(table: NodeTable, info: NodeInfo, profile: Profile, service_id: str) -> int:
    """How many more such tasks the node takes. Only for limited profiles."""
    room: list[int] = []
    if profile.nano_cpus:
        room.append(info.free_cpus // profile.nano_cpus)
    if profile.memory_bytes:
        room.append(info.free_memory // profile.memory_bytes)
    for one in profile.generic:
        room.append(table.generic.free(info.number, one.kind) // one.amount)
    if profile.host_ports:
        room.append(0 if table.ports.holding(profile.host_ports) >> info.number & 1 else 1)
    if profile.max_replicas:
        service = table.services.get(service_id)
        room.append(profile.max_replicas - (service.counts.get(info.number, 0) if service is not None else 0))
    return min(room)


def lacking(table: NodeTable, profile: Profile, mask: int) -> dict[str, int]:
    """Resource -> the nodes of `mask` that have too little of it, judged exactly."""
    needs = [("cpu", table.cpus, profile.nano_cpus), ("memory", table.memory, profile.memory_bytes)]
    needs += [(one.kind, table.generic.rooms.get(one.kind, _NO_ROOM), one.amount) for one in profile.generic]
    found = {kind: _short(table, room, mask, kind, need) for kind, room, need in needs if need}
    return {kind: short for kind, short in found.items() if short}


def full_of(table: NodeTable, profile: Profile, service_id: str) -> int:
    """Nodes that already run as many of the service as its limit allows."""
    service = table.services.get(service_id)
    if service is None:
        return 0
    mask = 0
    for count, nodes in service.by_count.items():
        if count >= profile.max_replicas:
            mask |= nodes
    return mask


def border_of(table: NodeTable, profile: Profile) -> int:
    """The nodes that only an exact test can judge: how much a try that fails costs."""
    if not profile.is_reserving:
        return 0
    border = table.cpus.perhaps(profile.nano_cpus) if profile.nano_cpus else 0
    return table.available & (border | (table.memory.perhaps(profile.memory_bytes) if profile.memory_bytes else 0))


def _short(table: NodeTable, room: Room, mask: int, kind: str, need: int) -> int:
    border = mask & room.perhaps(need)
    short = mask & ~room.surely(need) & ~border
    return short | table.short_of(kind, need, border) if border else short


# -- the filters -----------------------------------------------------------------------------------------------------
def _ready(table: NodeTable, _profile: Profile, _service_id: str, mask: int) -> int:
    return mask & table.available


def _software(table: NodeTable, profile: Profile, _service_id: str, mask: int) -> int:
    for name in profile.features:
        mask &= table.traits.features.of(name)
    return mask


def _resources(table: NodeTable, profile: Profile, _service_id: str, mask: int) -> int:
    if profile.nano_cpus:
        mask &= table.cpus.surely(profile.nano_cpus) | table.cpus.perhaps(profile.nano_cpus)
    if profile.memory_bytes and mask:
        mask &= table.memory.surely(profile.memory_bytes) | table.memory.perhaps(profile.memory_bytes)
    if profile.generic and mask:
        mask &= table.generic.perhaps(profile.generic)
    return mask


def _resources_exactly(table: NodeTable, profile: Profile, _service_id: str, mask: int) -> int:
    for short in lacking(table, profile, mask).values():
        mask &= ~short
    return mask


def _plugins(table: NodeTable, profile: Profile, _service_id: str, mask: int) -> int:
    for plugin in profile.plugins:
        mask &= table.traits.with_plugin(plugin, table.everyone)
    return mask


def _constraints(table: NodeTable, profile: Profile, _service_id: str, mask: int) -> int:
    for constraint in profile.constraints:
        mask &= table.meeting(constraint)
    return mask


def _platform(table: NodeTable, profile: Profile, _service_id: str, mask: int) -> int:
    return mask & table.traits.running(profile.platforms)


def _host_ports(table: NodeTable, profile: Profile, _service_id: str, mask: int) -> int:
    return mask & ~table.ports.holding(profile.host_ports)


def _max_replicas(table: NodeTable, profile: Profile, service_id: str, mask: int) -> int:
    return mask & ~full_of(table, profile, service_id)


READY: Final = Filter("ready", _ready, _ready)
"""Not among `FILTERS`: it applies always, and its mask is where `candidates` begins."""
FILTERS: Final = (
    Filter("software", _software, _software),
    Filter("resources", _resources, _resources_exactly),
    Filter("plugin", _plugins, _plugins),
    Filter("constraint", _constraints, _constraints),
    Filter("platform", _platform, _platform),
    Filter("host_port", _host_ports, _host_ports),
    Filter("max_replicas", _max_replicas, _max_replicas),
)
"""In order; `Profile.asks` says which apply."""
