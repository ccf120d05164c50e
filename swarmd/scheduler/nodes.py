"""The scheduler's table of nodes: what each has free and runs, and the masks that answer "which nodes ..." at once.

A node keeps its dense number for the life of the table. Numbers follow (creation, id), so that ties fall the same way
under the next leader; a removed node leaves a hole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from swarmd.model import Availability, Membership, Node, NodeDescription, NodeState
from swarmd.scheduler.masks import mask_of, move_bits
from swarmd.scheduler.profile import Profile
from swarmd.scheduler.room import Room

_STATE_REASON = {NodeState.UNKNOWN: "unknown", NodeState.DOWN: "down", NodeState.DISCONNECTED: "disconnected"}
_AVAILABILITY_REASON = {Availability.PAUSE: "paused", Availability.DRAIN: "drained"}
_NO_DESCRIPTION = NodeDescription()


def unavailable_reason(node: Node) -> str:
    """Why nothing new is placed on `node`, in a word or two; empty if it takes tasks."""
    if node.spec.membership is not Membership.ACCEPTED:
        return "not accepted"
    if node.status.state is not NodeState.READY:
        return _STATE_REASON[node.status.state]
    if node.spec.availability is not Availability.ACTIVE:
        return _AVAILABILITY_REASON[node.spec.availability]
    if not node.status.confirmed:
        return "not yet back in session"
    if node.description == _NO_DESCRIPTION:
        return "without a description"
    return "without its engine" if node.description.engine_error else ""


class NodeInfo:
    """One node. `node` is None for a node that only tasks speak of: it is charged, and takes nothing."""

    __slots__ = ("free_cpus", "free_memory", "id", "node", "number", "reason", "tasks", "total")

    def __init__(self, id: str, number: int) -> None:
        self.id = id
        self.number = number
        self.node: Node | None = None
        self.reason = ""
        self.free_cpus = 0
        self.free_memory = 0
        self.total = 0
        """Active tasks, of all services."""
        self.tasks = 0
        """Charges, active or not: while there are some, the number stays taken."""


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


class NodeTable:
    """All nodes, and masks kept equal to them at every change."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.infos: list[NodeInfo] = []
        self._by_id: dict[str, NodeInfo] = {}
        self.everyone = 0
        self.available = 0
        self.reasons: Counter[str] = Counter()
        self.features: dict[str, int] = {}
        self.levels: dict[int, int] = {}
        """Total of active tasks -> nodes."""
        self.cpus = Room()
        self.memory = Room()
        self.services: dict[str, ServiceCounts] = {}
        for node in sorted(nodes, key=lambda n: (n.meta.created_at, n.id)):
            self.put(node)

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, id: str) -> NodeInfo | None:
        """The node, if it or a task on it is known."""
        return self._by_id.get(id)

    def ensure(self, id: str) -> NodeInfo:
        """The node's entry, made if need be."""
        info = self._by_id.get(id)
        if info is None:
            info = self._by_id[id] = NodeInfo(id, len(self.infos))
            self.infos.append(info)
            bit = 1 << info.number
            self.levels[0] = self.levels.get(0, 0) | bit
            self.cpus.place(bit, 0)
            self.memory.place(bit, 0)
        return info

    def put(self, node: Node) -> bool:
        """Take over a new or changed node; whether that can matter to placement or its explanation."""
        info = self.ensure(node.id)
        old = info.node
        if old is not None and (old.spec, old.status, old.description) == (node.spec, node.status, node.description):
            info.node = node
            return False
        bit = 1 << info.number
        self._set_reason(info, bit, unavailable_reason(node))
        self._set_features(bit, old, node)
        capacity = node.description.resources
        before = old.description.resources if old is not None else None
        delta_cpus = capacity.nano_cpus - (before.nano_cpus if before else 0)
        delta_memory = capacity.memory_bytes - (before.memory_bytes if before else 0)
        self._change_free(info, delta_cpus, delta_memory)
        info.node = node
        return True

    def drop(self, id: str) -> bool:
        """The node is gone; whether it was known. Tasks still charged to it keep its entry until they go too."""
        info = self._by_id.get(id)
        if info is None or info.node is None:
            return False
        bit = 1 << info.number
        if info.reason:
            self._forget_reason(info.reason)
        self.everyone &= ~bit
        self.available &= ~bit
        for name in info.node.description.features:
            self.features[name] &= ~bit
        resources = info.node.description.resources
        self._change_free(info, -resources.nano_cpus, -resources.memory_bytes)
        info.node = None
        info.reason = ""
        self._release(info)
        return True

    # -- charges ---------------------------------------------------------------------------------------------------
    def charge(self, info: NodeInfo, profile: Profile, service_id: str, *, is_active: bool) -> None:
        """One task more on the node."""
        info.tasks += 1
        if profile.nano_cpus or profile.memory_bytes:
            self._change_free(info, -profile.nano_cpus, -profile.memory_bytes)
        if is_active:
            self.count(info, service_id, 1)

    def refund(self, info: NodeInfo, profile: Profile, service_id: str, *, was_active: bool) -> None:
        """One task less on the node."""
        info.tasks -= 1
        if profile.nano_cpus or profile.memory_bytes:
            self._change_free(info, profile.nano_cpus, profile.memory_bytes)
        if was_active:
            self.count(info, service_id, -1)
        if info.node is None:
            self._release(info)

    def count(self, info: NodeInfo, service_id: str, delta: int) -> None:
        """The node runs `delta` more active tasks. No service is not a service: it has no counts of its own."""
        move_bits(self.levels, 1 << info.number, info.total, info.total + delta)
        info.total += delta
        if not service_id:
            return
        service = self.services.get(service_id)
        if service is None:
            service = self.services[service_id] = ServiceCounts()
        service.change(info.number, delta)
        if not service.counts:
            del self.services[service_id]

    def charge_group(self, chosen: list[int], profile: Profile, service_id: str) -> None:
        """One active task more for each occurrence of a node in `chosen`; masks move once per (level, gain)."""
        gains = Counter(chosen)
        service = self.services.setdefault(service_id, ServiceCounts()) if service_id else None
        total_moves: dict[tuple[int, int], list[int]] = {}
        count_moves: dict[tuple[int, int], list[int]] = {}
        has_reservations = bool(profile.nano_cpus or profile.memory_bytes)
        for number, gain in gains.items():
            info = self.infos[number]
            info.tasks += gain
            total_moves.setdefault((info.total, gain), []).append(number)
            info.total += gain
            if service is not None:
                old = service.counts.get(number, 0)
                count_moves.setdefault((old, gain), []).append(number)
                service.counts[number] = old + gain
            if has_reservations:
                self._change_free(info, -gain * profile.nano_cpus, -gain * profile.memory_bytes)
        self._move_all(self.levels, total_moves)
        if service is not None:
            self._move_all(service.by_count, count_moves)
            service.by_count.pop(0, None)

    def _move_all(self, masks: dict[int, int], moves: dict[tuple[int, int], list[int]]) -> None:
        changes = [(old, gain, mask_of(numbers, len(self.infos))) for (old, gain), numbers in moves.items()]
        for old, gain, bits in changes:
            move_bits(masks, bits, old, old + gain)

    # -- upkeep -------------------------------------------------------------------------------------------------------
    def _set_reason(self, info: NodeInfo, bit: int, reason: str) -> None:
        if info.node is not None and info.reason:
            self._forget_reason(info.reason)
        info.reason = reason
        self.everyone |= bit
        if reason:
            self.reasons[reason] += 1
            self.available &= ~bit
        else:
            self.available |= bit

    def _forget_reason(self, reason: str) -> None:
        self.reasons[reason] -= 1
        if not self.reasons[reason]:
            del self.reasons[reason]

    def _set_features(self, bit: int, old: Node | None, new: Node) -> None:
        before = old.description.features if old is not None else ()
        after = new.description.features
        if before == after:
            return
        for name in before:
            self.features[name] &= ~bit
        for name in after:
            self.features[name] = self.features.get(name, 0) | bit

    def _change_free(self, info: NodeInfo, cpus: int, memory: int) -> None:
        if cpus:
            self.cpus.change(info.number, info.free_cpus, info.free_cpus + cpus)
            info.free_cpus += cpus
        if memory:
            self.memory.change(info.number, info.free_memory, info.free_memory + memory)
            info.free_memory += memory

    def _release(self, info: NodeInfo) -> None:
        """Forget a node that neither exists nor has charges. Its number stays a hole."""
        if info.tasks:
            return
        bit = 1 << info.number
        left = self.levels.get(info.total, 0) & ~bit
        if left:
            self.levels[info.total] = left
        else:
            self.levels.pop(info.total, None)
        self.cpus.drop(bit, info.free_cpus)
        self.memory.drop(bit, info.free_memory)
        del self._by_id[info.id]
