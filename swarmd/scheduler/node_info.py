"""What the scheduler remembers of one node, and of one service's tasks on all of them."""

from __future__ import annotations

from typing import Final

from swarmd.model import Node
from swarmd.scheduler.masks import move_bits

SHARES: Final = 64
"""Steps in which a node's reserved share is compared."""


class NodeInfo:
    """One node. `node` is None for a node that only tasks speak of: it is charged, and takes nothing."""

    __slots__ = (
        *("cpus", "free_cpus", "free_memory", "id", "memory", "node", "number", "reason", "share", "tasks", "total"),
    )

    def __init__(self, id: str, number: int) -> None:
        self.id = id
        self.number = number
        self.node: Node | None = None
        self.reason = ""
        self.cpus = 0
        self.memory = 0
        self.free_cpus = 0
        self.free_memory = 0
        self.share = 0
        """Of what it has, how much is reserved: CPU or memory, whichever is scarcer; in `SHARES` steps, downwards."""
        self.total = 0
        """Active tasks, of all services."""
        self.tasks = 0
        """Charges, active or not: while there are some, the number stays taken."""

    def share_after(self, cpus: int, memory: int) -> int:
        """The share once `cpus` and `memory` more are reserved."""
        share = 0
        if self.cpus > 0:
            share = SHARES * (self.cpus - self.free_cpus + cpus) // self.cpus
        if self.memory > 0:
            share = max(share, SHARES * (self.memory - self.free_memory + memory) // self.memory)
        return min(max(share, 0), SHARES)

    @property
    def name(self) -> str:
        """For people."""
        node = self.node
        return (node.spec.name or node.description.hostname or self.id) if node is not None else self.id


class ServiceCounts:
    """Active tasks of one service per node, and the same as masks."""

    __slots__ = ("by_count", "counts")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.by_count: dict[int, int] = {}

    def change(self, number: int, delta: int) -> None:
        """Node `number` runs `delta` more."""
        old = self.counts.get(number, 0)
        new = old + delta
        bit = 1 << number
        if new:
            self.counts[number] = new
            move_bits(self.by_count, bit, old, new)
        else:
            self.counts.pop(number, None)
            move_bits(self.by_count, bit, old, 0)
        self.by_count.pop(0, None)
