"""Placing a group of equal tasks: by its strategy, and evenly over the branches of its preferences.

At each vertex the branch with the fewest tasks of the service gets the next task; of equal ones that of the lowest
value. A branch counts all its nodes, those included that may take nothing; one that takes no more drops out, and its
share goes to its neighbours. SwarmKit divides a vertex's tasks in advance instead, and can overshoot where a lower
level is uneven (reference orchestration 7.7); where its division is exact, both agree.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final

from swarmd.scheduler.filters import candidates
from swarmd.scheduler.masks import mask_of, numbers_of
from swarmd.scheduler.nodes import NodeTable
from swarmd.scheduler.pack import Packer
from swarmd.scheduler.profile import Profile
from swarmd.scheduler.spread import Failing, Leveller

FEW_VALUES: Final = 128
"""Values of a label up to which branches are cut out of masks; beyond, the nodes are gone through one by one."""


def choose(table: NodeTable, profile: Profile, service_id: str, failing: Failing, tasks: int) -> list[int]:
    """Node numbers for up to `tasks` equal tasks, in the order in which they are to be charged."""
    eligible = candidates(table, profile, service_id)
    if not eligible:
        return []
    tree = _Tree(table, profile, service_id, failing)
    if not profile.preferences:
        return tree.order(eligible).take(tasks)
    root = _Vertex(tree, 0, table.everyone, eligible, 0)
    chosen: list[int] = []
    while len(chosen) < tasks:
        number = root.take()
        if number < 0:
            break
        chosen.append(number)
    return chosen


class _Tree:
    """What all vertices know."""

    def __init__(self, table: NodeTable, profile: Profile, service_id: str, failing: Failing) -> None:
        self.table = table
        self.profile = profile
        self.service_id = service_id
        self.failing = failing
        service = table.services.get(service_id) if service_id else None
        self._by_count = service.by_count if service is not None else {}

    def order(self, eligible: int) -> Leveller | Packer:
        """The nodes of `eligible` by the profile's strategy."""
        kind = Packer if self.profile.is_packed else Leveller
        return kind(self.table, self.profile, self.service_id, self.failing, eligible)

    def count(self, nodes: int) -> int:
        """Active tasks of the service on `nodes`."""
        return sum(count * (nodes & mask).bit_count() for count, mask in self._by_count.items())

    def branches(self, level: int, nodes: int, eligible: int) -> Iterator[tuple[str, int, int]]:
        """(value, its nodes, its eligible ones) of each value with some of the latter."""
        key = self.profile.preferences[level]
        values = self.table.values(key)
        if len(values) <= FEW_VALUES:
            for value in values:
                branch = nodes & self.table.value_mask(key, value)
                if taking := branch & eligible:
                    yield value, branch, taking
            return
        of = self.table.value_of(key)
        by_value: dict[str, list[int]] = {}
        for number in numbers_of(nodes):
            by_value.setdefault(of[number], []).append(number)
        for value, numbers in by_value.items():
            branch = mask_of(numbers, len(self.table.infos))
            if taking := branch & eligible:
                yield value, branch, taking


class _Vertex:
    """Some nodes, and below them their branches by the next preference; at the end, their order."""

    __slots__ = ("_branches", "_eligible", "_level", "_nodes", "_order", "_tree", "count")

    def __init__(self, tree: _Tree, level: int, nodes: int, eligible: int, count: int) -> None:
        self._tree = tree
        self._level = level
        self._nodes = nodes
        self._eligible = eligible
        self._branches: list[tuple[int, str, _Vertex]] | None = None
        self._order: Leveller | Packer | None = None
        self.count = count

    def take(self) -> int:
        """The node for the next task, -1 if there is none."""
        if self._level == len(self._tree.profile.preferences):
            if self._order is None:
                self._order = self._tree.order(self._eligible)
            numbers = self._order.take(1)
            return numbers[0] if numbers else -1
        if self._branches is None:
            self._branches = self._grown()
        branches = self._branches
        while branches:
            _, value, branch = branches[0]
            number = branch.take()
            if number >= 0:
                branch.count += 1
                heapq.heapreplace(branches, (branch.count, value, branch))
                return number
            heapq.heappop(branches)
        return -1

    def _grown(self) -> list[tuple[int, str, _Vertex]]:
        branches = []
        for value, nodes, eligible in self._tree.branches(self._level, self._nodes, self._eligible):
            count = self._tree.count(nodes)
            branches.append((count, value, _Vertex(self._tree, self._level + 1, nodes, eligible, count)))
        heapq.heapify(branches)
        return branches
