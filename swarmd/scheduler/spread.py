"""Spreading: least failing first, then least used by the service, then least used by all, then the lowest number.

Two ways to the same answer. `best_node` finds one node by walking masks in order. `level_out` serves a group with a
bucket queue: everybody in the lowest bucket gets one task and moves to the next; a node that is full drops out.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from typing import Final

from swarmd.scheduler.masks import lowest, mask_of, numbers_of
from swarmd.scheduler.nodes import NodeInfo, NodeTable
from swarmd.scheduler.profile import Profile

GROUP_MIN: Final = 8
"""Tasks from which a bucket queue pays; more on large clusters: see `is_group`."""
_GROUP_NODES: Final = 512

Tier = tuple[int, int, int]
"""(failures, active tasks of the service, mask of candidates)."""
_Key = tuple[int, int, int]
"""(failures, active tasks of the service, active tasks in all)."""


def is_group(tasks: int, nodes: int) -> bool:
    """Whether `tasks` equal ones are better placed together."""
    return tasks >= max(GROUP_MIN, nodes // _GROUP_NODES)


def candidates(table: NodeTable, profile: Profile, service_id: str) -> int:
    """Nodes that may take such a task. Those in a request's own octave still need `fits`."""
    if profile.constraints:
        return 0
    mask = table.available
    if profile.node_id:
        info = table.find(profile.node_id)
        mask &= 1 << info.number if info is not None else 0
    for name in profile.features:
        mask &= table.features.get(name, 0)
    if profile.nano_cpus and mask:
        mask &= table.cpus.surely(profile.nano_cpus) | table.cpus.perhaps(profile.nano_cpus)
    if profile.memory_bytes and mask:
        mask &= table.memory.surely(profile.memory_bytes) | table.memory.perhaps(profile.memory_bytes)
    if profile.max_replicas and mask:
        mask &= ~full_of(table, profile, service_id)
    return mask


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


def room_for(table: NodeTable, info: NodeInfo, profile: Profile, service_id: str) -> int:
    """How many more such tasks the node takes. Only for limited profiles."""
    room: list[int] = []
    if profile.nano_cpus:
        room.append(info.free_cpus // profile.nano_cpus)
    if profile.memory_bytes:
        room.append(info.free_memory // profile.memory_bytes)
    if profile.max_replicas:
        service = table.services.get(service_id)
        room.append(profile.max_replicas - (service.counts.get(info.number, 0) if service is not None else 0))
    return min(room)


def tiers(table: NodeTable, eligible: int, service_id: str, failing: Mapping[str, int]) -> Iterator[Tier]:
    """The eligible nodes in order: fewest failures, then fewest tasks of the service."""
    for failures, mask in _by_failures(table, eligible, failing):
        service = table.services.get(service_id) if service_id else None
        if service is None:
            yield failures, 0, mask
            continue
        used = 0
        for nodes in service.by_count.values():
            used |= nodes
        if free := mask & ~used:
            yield failures, 0, free
        for count in sorted(service.by_count):
            if nodes := mask & service.by_count[count]:
                yield failures, count, nodes


def _by_failures(table: NodeTable, eligible: int, failing: Mapping[str, int]) -> Iterator[tuple[int, int]]:
    if not failing:
        yield 0, eligible
        return
    by_failures: dict[int, list[int]] = {}
    for node_id, failures in failing.items():
        info = table.find(node_id)
        if info is not None:
            by_failures.setdefault(failures, []).append(info.number)
    masks = {failures: mask_of(numbers, len(table.infos)) for failures, numbers in by_failures.items()}
    healthy = eligible
    for mask in masks.values():
        healthy &= ~mask
    yield 0, healthy
    for failures in sorted(masks):
        yield failures, masks[failures] & eligible


def best_node(table: NodeTable, profile: Profile, service_id: str, failing: Mapping[str, int]) -> NodeInfo | None:
    """The node for one task, or None if it fits nowhere."""
    eligible = candidates(table, profile, service_id)
    if not eligible:
        return None
    levels = sorted(table.levels)
    for _, _, tier in tiers(table, eligible, service_id, failing):
        for total in levels:
            mask = table.levels[total] & tier
            while mask:
                info = table.infos[lowest(mask)]
                if not profile.is_limited or room_for(table, info, profile, service_id) > 0:
                    return info
                mask &= mask - 1
    return None


def level_out(table: NodeTable, profile: Profile, service_id: str, failing: Mapping[str, int], tasks: int) -> list[int]:
    """Node numbers for up to `tasks` equal tasks, in the order in which `best_node` would have given them."""
    eligible = candidates(table, profile, service_id)
    if not eligible:
        return []
    fresh = _buckets(table, eligible, service_id, failing)
    moved: dict[_Key, list[int]] = {}
    keys = list(fresh)
    heapq.heapify(keys)
    room: dict[int, int] = {}
    chosen: list[int] = []
    step = 1 if service_id else 0
    while keys and len(chosen) < tasks:
        key = heapq.heappop(keys)
        numbers = numbers_of(fresh.pop(key, 0)) + moved.pop(key, [])
        numbers.sort()
        wanted = tasks - len(chosen)
        if profile.is_limited:
            taken, again = _take_limited(table, profile, service_id, numbers, room, wanted)
        else:
            taken = again = numbers[:wanted]
        chosen += taken
        if again:
            following = (key[0], key[1] + step, key[2] + 1)
            if following in moved:
                moved[following] += again
            else:
                moved[following] = list(again)
                if following not in fresh:
                    heapq.heappush(keys, following)
    return chosen


def _buckets(table: NodeTable, eligible: int, service_id: str, failing: Mapping[str, int]) -> dict[_Key, int]:
    buckets: dict[_Key, int] = {}
    for failures, count, tier in tiers(table, eligible, service_id, failing):
        for total, level in table.levels.items():
            if mask := level & tier:
                buckets[failures, count, total] = mask
    return buckets


def _take_limited(
    table: NodeTable, profile: Profile, service_id: str, numbers: list[int], room: dict[int, int], wanted: int
) -> tuple[list[int], list[int]]:
    """(nodes that take one task, those of them that could take another)."""
    taken: list[int] = []
    again: list[int] = []
    for number in numbers:
        left = room.get(number, -1)
        if left < 0:
            left = max(0, room_for(table, table.infos[number], profile, service_id))
        if not left:
            continue
        if len(taken) == wanted:
            break
        room[number] = left - 1
        taken.append(number)
        if left > 1:
            again.append(number)
    return taken, again
