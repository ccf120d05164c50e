"""The strategy `binpack`: least failing first, then the greatest reserved share, then most used by all, then the lowest
number. A node is filled before the next is begun, so that as few nodes as possible are used.

The share is of CPU or memory, whichever is scarcer, in 64 steps: finer differences are noise of odd sizes. How many
tasks of the service a node runs does not matter; `max_replicas` is there for that.
"""

from __future__ import annotations

from collections.abc import Iterator

from swarmd.scheduler.filters import room_for
from swarmd.scheduler.masks import numbers_of
from swarmd.scheduler.nodes import NodeTable
from swarmd.scheduler.profile import Profile
from swarmd.scheduler.spread import Failing, by_failures


class Packer:
    """Nodes for equal tasks, each as often as it takes one. Nothing is charged.

    A node that took a task has a greater share and more tasks than before, so it stays the first of its kind.
    """

    def __init__(self, table: NodeTable, profile: Profile, service_id: str, failing: Failing, eligible: int) -> None:
        self._table = table
        self._profile = profile
        self._service_id = service_id
        self._numbers = self._in_order(eligible, failing)
        self._number = -1
        self._room = 0

    def take(self, wanted: int) -> list[int]:
        """Up to `wanted` node numbers more; fewer once no node takes another task."""
        chosen: list[int] = []
        while len(chosen) < wanted:
            if self._room <= 0:
                self._number = next(self._numbers, -1)
                if self._number < 0:
                    break
                self._room = self._room_of(self._number, wanted)
                continue
            taken = min(self._room, wanted - len(chosen))
            chosen += [self._number] * taken
            if self._profile.is_limited:
                self._room -= taken
        return chosen

    def _room_of(self, number: int, wanted: int) -> int:
        if not self._profile.is_limited:
            return wanted
        return room_for(self._table, self._table.infos[number], self._profile, self._service_id)

    def _in_order(self, eligible: int, failing: Failing) -> Iterator[int]:
        table = self._table
        shares = sorted(table.shares, reverse=True)
        levels = sorted(table.levels, reverse=True)
        for _, mask in by_failures(table, eligible, failing):
            for share in shares:
                if not (of_share := mask & table.shares[share]):
                    continue
                for total in levels:
                    if nodes := of_share & table.levels[total]:
                        yield from numbers_of(nodes)
