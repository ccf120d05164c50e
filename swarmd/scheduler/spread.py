"""The order of nodes: least failing first, then least used by the service, then least used by all, then the least
reserved share, then the lowest number. `pack.py` has the other strategy's, `tree.py` what preferences do with both.

Two ways to the same answer. `best_node` finds one node by walking masks in order. `Leveller` serves a group with a
bucket queue: everybody in the lowest bucket gets one task and moves to the next; a node that is full drops out.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from typing import Final

from swarmd.scheduler.filters import candidates, filters_of, room_for
from swarmd.scheduler.masks import lowest, mask_of, numbers_of
from swarmd.scheduler.node_info import NodeInfo
from swarmd.scheduler.nodes import NodeTable
from swarmd.scheduler.profile import Profile

GROUP_MIN: Final = 8
"""Tasks from which a bucket queue pays; more on large clusters: see `is_group`."""
_GROUP_NODES: Final = 512
TRIES_MAX: Final = 32
"""Nodes of a request's own octave that are tried one by one; then all that are left are judged at once."""

Failing = Mapping[str, int]
"""Node id -> recent failures, of the nodes that have too many."""
Tier = tuple[int, int, int]
"""(failures, active tasks of the service, mask of candidates)."""
_Key = tuple[int, int, int]
"""(failures, active tasks of the service, active tasks in all)."""


def is_group(tasks: int, nodes: int) -> bool:
    """Whether `tasks` equal ones are better placed together."""
    return tasks >= max(GROUP_MIN, nodes // _GROUP_NODES)


def tiers(table: NodeTable, eligible: int, service_id: str, failing: Failing) -> Iterator[Tier]:
    """The eligible nodes in order: fewest failures, then fewest tasks of the service."""
    for failures, mask in by_failures(table, eligible, failing):
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


def by_failures(table: NodeTable, eligible: int, failing: Failing) -> Iterator[tuple[int, int]]:
    """(failures, those of the eligible nodes that have as many), fewest first."""
    if not failing:
        yield 0, eligible
        return
    numbers_by_failures: dict[int, list[int]] = {}
    for node_id, failures in failing.items():
        info = table.find(node_id)
        if info is not None:
            numbers_by_failures.setdefault(failures, []).append(info.number)
    masks = {failures: mask_of(numbers, len(table.infos)) for failures, numbers in numbers_by_failures.items()}
    healthy = eligible
    for mask in masks.values():
        healthy &= ~mask
    yield 0, healthy
    for failures in sorted(masks):
        yield failures, masks[failures] & eligible


def best_node(table: NodeTable, profile: Profile, service_id: str, failing: Failing) -> NodeInfo | None:
    """The node for one task, or None if it fits nowhere. Not for profiles that are packed or have preferences."""
    eligible = candidates(table, profile, service_id)
    if not eligible:
        return None
    levels = sorted(table.levels)
    shares = sorted(table.shares) if len(table.shares) > 1 else ()
    for _, _, tier in tiers(table, eligible, service_id, failing):
        for total in levels:
            level = table.levels[total] & tier
            if not level:
                continue
            if not shares or not level & (level - 1):
                found = _first_with_room(table, profile, service_id, level)
                if found is not None:
                    return found
                continue
            for share in shares:
                mask = level & table.shares[share]
                if mask and (found := _first_with_room(table, profile, service_id, mask)) is not None:
                    return found
    return None


def _first_with_room(table: NodeTable, profile: Profile, service_id: str, mask: int) -> NodeInfo | None:
    tried = 0
    while mask:
        if tried == TRIES_MAX:
            for one in filters_of(profile):
                mask = one.narrow_exactly(table, profile, service_id, mask)
            if not mask:
                return None
        tried += 1
        info = table.infos[lowest(mask)]
        if not profile.is_limited or room_for(table, info, profile, service_id) > 0:
            return info
        mask &= mask - 1
    return None


class Leveller:
    """Nodes for equal tasks, in the order in which `best_node` would have given them. Nothing is charged."""

    def __init__(self, table: NodeTable, profile: Profile, service_id: str, failing: Failing, eligible: int) -> None:
        self._table = table
        self._profile = profile
        self._service_id = service_id
        self._step = 1 if service_id else 0
        self._fresh = {
            (failures, count, total): mask
            for failures, count, tier in tiers(table, eligible, service_id, failing)
            for total, level in table.levels.items()
            if (mask := level & tier)
        }
        self._moved: dict[_Key, list[int]] = {}
        self._keys: list[_Key] = list(self._fresh)
        heapq.heapify(self._keys)
        self._room: dict[int, int] = {}
        self._taken: dict[int, int] = {}
        self._has_shares = profile.is_reserving or len(table.shares) > 1
        # the bucket that is being served: its key, its nodes, and how many of them have been asked
        self._key: _Key = (0, 0, 0)
        self._bucket: list[int] = []
        self._position = 0

    def take(self, wanted: int) -> list[int]:
        """Up to `wanted` node numbers more; fewer once no node takes another task."""
        chosen: list[int] = []
        while len(chosen) < wanted and (self._position < len(self._bucket) or self._next_bucket()):
            left = wanted - len(chosen)
            if self._profile.is_limited:
                taken, again = self._take_limited(left)
            else:
                taken = again = self._bucket[self._position : self._position + left]
                self._position += len(taken)
            chosen += taken
            if again:
                self._move_on(again)
        return chosen

    def _next_bucket(self) -> bool:
        if not self._keys:
            return False
        self._key = key = heapq.heappop(self._keys)
        moved = self._moved.pop(key, ())
        self._bucket = numbers_of(self._fresh.pop(key, 0))
        if moved:
            self._bucket += moved
            self._bucket.sort()
        if self._has_shares:
            self._bucket.sort(key=self._share_of)
        self._position = 0
        return True

    def _share_of(self, number: int) -> int:
        info = self._table.infos[number]
        taken = self._taken.get(number)
        if not taken:
            return info.share
        return info.share_after(taken * self._profile.nano_cpus, taken * self._profile.memory_bytes)

    def _move_on(self, numbers: list[int]) -> None:
        failures, count, total = self._key
        following = (failures, count + self._step, total + 1)
        if following in self._moved:
            self._moved[following] += numbers
            return
        self._moved[following] = list(numbers)
        if following not in self._fresh:
            heapq.heappush(self._keys, following)

    def _take_limited(self, wanted: int) -> tuple[list[int], list[int]]:
        """(nodes that take one task, those of them that could take another)."""
        taken: list[int] = []
        again: list[int] = []
        room = self._room
        while self._position < len(self._bucket) and len(taken) < wanted:
            number = self._bucket[self._position]
            self._position += 1
            left = room.get(number, -1)
            if left < 0:
                info = self._table.infos[number]
                left = max(0, room_for(self._table, info, self._profile, self._service_id))
            if not left:
                continue
            room[number] = left - 1
            taken.append(number)
            if self._profile.is_reserving:
                self._taken[number] = self._taken.get(number, 0) + 1
            if left > 1:
                again.append(number)
        return taken, again
