"""The scheduler's table of nodes: what each has free and runs, and the masks that answer "which nodes ..." at once.

A node keeps its dense number for the life of the table. Numbers follow (creation, id), so that ties fall the same way
under the next leader; a removed node leaves a hole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from swarmd.model import Availability, GenericResource, Membership, Node, NodeDescription, NodeState, Resources
from swarmd.model.constraints import Constraint
from swarmd.scheduler.attributes import Attributes
from swarmd.scheduler.generic import GenericStock
from swarmd.scheduler.masks import drop_bits, mask_of, move_bits, numbers_of
from swarmd.scheduler.node_info import NodeInfo, ServiceCounts
from swarmd.scheduler.ports import HostPorts
from swarmd.scheduler.profile import Profile
from swarmd.scheduler.room import Room
from swarmd.scheduler.traits import Traits

_STATE_REASON = {NodeState.UNKNOWN: "unknown", NodeState.DOWN: "down", NodeState.DISCONNECTED: "disconnected"}
_AVAILABILITY_REASON = {Availability.PAUSE: "paused", Availability.DRAIN: "drained"}
_NO_DESCRIPTION = NodeDescription()
_NOTHING = Resources()

TESTS_KEPT_MAX: Final = 256


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


def _nature(node: Node) -> tuple[object, ...]:
    """All of a node that placement or its explanation can depend on."""
    return (node.spec, node.status, node.description, node.role)


class NodeTable:
    """All nodes, and masks kept equal to them at every change."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.infos: list[NodeInfo] = []
        self._by_id: dict[str, NodeInfo] = {}
        self.everyone = 0
        self.available = 0
        self.reasons: Counter[str] = Counter()
        self.traits = Traits()
        self.attributes = Attributes()
        self.levels: dict[int, int] = {}
        """Total of active tasks -> nodes."""
        self.shares: dict[int, int] = {}
        """Reserved share -> nodes."""
        self.cpus = Room()
        self.memory = Room()
        self.generic = GenericStock()
        self.ports = HostPorts()
        self.services: dict[str, ServiceCounts] = {}
        self._largest: dict[tuple[str, int], int] = {}
        self._short: dict[tuple[str, int, int], int] = {}
        """What `largest_free` and `short_of` found, until something is taken or given back."""
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
            self.shares[0] = self.shares.get(0, 0) | bit
            self.cpus.place(bit, 0)
            self.memory.place(bit, 0)
        return info

    def put(self, node: Node) -> bool:
        """Take over a new or changed node; whether that can matter to placement or its explanation."""
        info = self.ensure(node.id)
        old = info.node
        if old is not None and _nature(old) == _nature(node):
            info.node = node
            return False
        bit = 1 << info.number
        self._set_reason(info, bit, unavailable_reason(node))
        self.traits.change(bit, old, node)
        self._set_capacity(info, old.description.resources if old is not None else _NOTHING, node.description.resources)
        self.attributes.put(info.number, node)
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
        self.traits.change(bit, info.node, None)
        self._set_capacity(info, info.node.description.resources, _NOTHING)
        self.attributes.drop(info.number)
        info.node = None
        info.reason = ""
        self._release(info)
        return True

    # -- attributes --------------------------------------------------------------------------------------------------
    def meeting(self, constraint: Constraint) -> int:
        """The nodes that meet the constraint."""
        return self.attributes.meeting(constraint, self._nodes(), self.everyone)

    def values(self, key: str) -> Mapping[str, set[int]]:
        """Value of an attribute -> numbers of the nodes that have it."""
        return self.attributes.values(key, self._nodes())

    def value_of(self, key: str) -> Mapping[int, str]:
        """Number of each node -> its value of an attribute."""
        return self.attributes.value_of(key, self._nodes())

    def value_mask(self, key: str, value: str) -> int:
        """The nodes with this value of an attribute whose `values` were just asked for."""
        return self.attributes.value_mask(key, value, len(self.infos))

    def _nodes(self) -> Iterator[tuple[int, Node]]:
        for info in self._by_id.values():
            if info.node is not None:
                yield info.number, info.node

    def largest_free(self, kind: str, mask: int) -> tuple[NodeInfo, int]:
        """Of the nodes of `mask`, not empty, the one with the most of a resource free, and how much that is."""
        key = (kind, mask)
        number = self._largest.get(key)
        if number is None:
            number = self._largest[key] = max(numbers_of(mask), key=lambda number: self.free(kind, number))
        return self.infos[number], self.free(kind, number)

    def short_of(self, kind: str, need: int, mask: int) -> int:
        """The nodes of `mask` that have less than `need` of a resource free, by an exact test of each."""
        key = (kind, need, mask)
        short = self._short.get(key)
        if short is None:
            infos, numbers = self.infos, numbers_of(mask)
            match kind:
                case "cpu":
                    numbers = [number for number in numbers if infos[number].free_cpus < need]
                case "memory":
                    numbers = [number for number in numbers if infos[number].free_memory < need]
                case _:
                    numbers = [number for number in numbers if self.generic.free(number, kind) < need]
            if len(self._short) >= TESTS_KEPT_MAX:
                self._short.clear()
            short = self._short[key] = mask_of(numbers, len(infos))
        return short

    def _forget_tests(self) -> None:
        """Something is taken or given back."""
        if self._largest or self._short:
            self._largest.clear()
            self._short.clear()

    def free(self, kind: str, number: int) -> int:
        """How much of a resource the node has free; negative if it is overcommitted."""
        if kind == "cpu":
            return self.infos[number].free_cpus
        return self.infos[number].free_memory if kind == "memory" else self.generic.free(number, kind)

    # -- charges ---------------------------------------------------------------------------------------------------
    def charge(
        self,
        info: NodeInfo,
        profile: Profile,
        service_id: str,
        *,
        is_active: bool,
        generic: tuple[GenericResource, ...] = (),
    ) -> None:
        """One task more on the node, which holds `generic`."""
        info.tasks += 1
        if profile.is_reserving:
            self._change_free(info, -profile.nano_cpus, -profile.memory_bytes)
        if generic:
            self._forget_tests()
            self.generic.take(info.number, generic)
        if profile.host_ports:
            self.ports.take(info.number, profile.host_ports, service_id)
        if is_active:
            self.count(info, service_id, 1)

    def refund(
        self,
        info: NodeInfo,
        profile: Profile,
        service_id: str,
        *,
        was_active: bool,
        generic: tuple[GenericResource, ...] = (),
    ) -> None:
        """One task less on the node, which held `generic`."""
        info.tasks -= 1
        if profile.is_reserving:
            self._change_free(info, profile.nano_cpus, profile.memory_bytes)
        if generic:
            self._forget_tests()
            self.generic.give_back(info.number, generic)
        if profile.host_ports:
            self.ports.give_back(info.number, profile.host_ports, service_id)
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
        """One active task more for each occurrence of a node in `chosen`; masks move once per (level, gain).

        Not for profiles that take ports or generic resources.
        """
        gains = Counter(chosen)
        service = self.services.setdefault(service_id, ServiceCounts()) if service_id else None
        total_moves: dict[tuple[int, int], list[int]] = {}
        count_moves: dict[tuple[int, int], list[int]] = {}
        for number, gain in gains.items():
            info = self.infos[number]
            info.tasks += gain
            total_moves.setdefault((info.total, gain), []).append(number)
            info.total += gain
            if service is not None:
                old = service.counts.get(number, 0)
                count_moves.setdefault((old, gain), []).append(number)
                service.counts[number] = old + gain
            if profile.is_reserving:
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

    def _set_capacity(self, info: NodeInfo, old: Resources, new: Resources) -> None:
        self._forget_tests()
        self.generic.describe(info.number, old.generic, new.generic)
        info.cpus, info.memory = new.nano_cpus, new.memory_bytes
        self._change_free(info, new.nano_cpus - old.nano_cpus, new.memory_bytes - old.memory_bytes)

    def _change_free(self, info: NodeInfo, cpus: int, memory: int) -> None:
        if cpus:
            self.cpus.change(info.number, info.free_cpus, info.free_cpus + cpus)
            info.free_cpus += cpus
        if memory:
            self.memory.change(info.number, info.free_memory, info.free_memory + memory)
            info.free_memory += memory
        self._forget_tests()
        share = info.share_after(0, 0)
        if share != info.share:
            move_bits(self.shares, 1 << info.number, info.share, share)
            info.share = share

    def _release(self, info: NodeInfo) -> None:
        """Forget a node that neither exists nor has charges. Its number stays a hole."""
        if info.tasks:
            return
        bit = 1 << info.number
        drop_bits(self.levels, bit, info.total)
        drop_bits(self.shares, bit, info.share)
        self.cpus.drop(bit, info.free_cpus)
        self.memory.drop(bit, info.free_memory)
        del self._by_id[info.id]
