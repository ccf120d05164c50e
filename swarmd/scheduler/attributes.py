"""Which nodes have which value of an attribute: what constraints compare and preferences spread over.

Only attributes that somebody asked for are kept, and each is kept right at every change of a node. Values are kept as
sets of numbers, masks only of those asked for: a mask for each of N values that differ would take N^2 bits.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final

from swarmd.model import Node
from swarmd.model.constraints import NODE_LABEL, Constraint, Operator, attribute_of, folded, matches
from swarmd.scheduler.masks import mask_of

KEYS_MAX: Final = 128
"""Attributes kept; those asked for longest ago are given up."""
MASKS_MAX: Final = 1_024
"""Masks kept of one attribute's values."""
ADDRESSES_MAX: Final = 64
"""Constraints on addresses whose masks are kept."""

_ADDRESS: Final = "node.ip"


class _Values:
    """The nodes' values of one attribute."""

    __slots__ = ("_masks", "by_number", "is_folded", "numbers")

    def __init__(self, *, is_folded: bool) -> None:
        self.is_folded = is_folded
        self.numbers: dict[str, set[int]] = {}
        self.by_number: dict[int, str] = {}
        self._masks: dict[str, int] = {}

    def put(self, number: int, value: str | None) -> None:
        """The node has `value` now; None: there is no such node."""
        if value is not None and self.is_folded:
            value = folded(value)
        old = self.by_number.get(number)
        if old == value:
            return
        bit = 1 << number
        if old is not None:
            self.numbers[old].discard(number)
            if not self.numbers[old]:
                del self.numbers[old]
            if old in self._masks:
                self._masks[old] &= ~bit
            del self.by_number[number]
        if value is not None:
            self.by_number[number] = value
            self.numbers.setdefault(value, set()).add(number)
            if value in self._masks:
                self._masks[value] |= bit

    def fill(self, key: str, nodes: Iterable[tuple[int, Node]]) -> int:
        """Take in all nodes at the beginning; how many there were."""
        label = key.removeprefix(NODE_LABEL)
        if label != key:
            found = [(number, node.spec.labels.get(label, "")) for number, node in nodes]
        else:
            found = [(number, value) for number, node in nodes if (value := attribute_of(node, key)) is not None]
        for number, value in found:
            kept = folded(value) if self.is_folded and value else value
            self.by_number[number] = kept
            if kept in self.numbers:
                self.numbers[kept].add(number)
            else:
                self.numbers[kept] = {number}
        return len(found)

    def mask(self, value: str, size: int) -> int:
        """The nodes with this value."""
        numbers = self.numbers.get(value)
        if numbers is None:
            return 0
        mask = self._masks.get(value)
        if mask is None:
            mask = mask_of(numbers, size)
            if len(self._masks) >= MASKS_MAX:
                self._masks.clear()
            self._masks[value] = mask
        return mask


class Attributes:
    """`nodes` and `size` in what follows: every node there is by number, and a bound of the numbers."""

    def __init__(self) -> None:
        self._values: OrderedDict[tuple[str, bool], _Values] = OrderedDict()
        self._addresses: OrderedDict[Constraint, int] = OrderedDict()
        self.visits = 0
        """Nodes looked at so far for attributes that were not kept: a pass has to know what that costs."""

    def put(self, number: int, node: Node) -> None:
        """A node came or changed."""
        for (key, _), values in self._values.items():
            values.put(number, attribute_of(node, key))
        bit = 1 << number
        for constraint, mask in self._addresses.items():
            self._addresses[constraint] = mask | bit if matches(node, constraint) else mask & ~bit

    def drop(self, number: int) -> None:
        """A node went."""
        for values in self._values.values():
            values.put(number, None)
        for constraint, mask in self._addresses.items():
            self._addresses[constraint] = mask & ~(1 << number)

    def meeting(self, constraint: Constraint, nodes: Iterable[tuple[int, Node]], everyone: int) -> int:
        """The nodes that meet the constraint."""
        if constraint.key == _ADDRESS:
            return self._by_address(constraint, nodes, everyone)
        values = self._of(constraint.key, True, nodes)  # noqa: FBT003
        if not values.numbers:
            return 0  # no node has such a key
        equal = values.mask(folded(constraint.value), everyone.bit_length())
        return equal if constraint.operator is Operator.EQUAL else everyone & ~equal

    def values(self, key: str, nodes: Iterable[tuple[int, Node]]) -> Mapping[str, set[int]]:
        """Value, as it stands -> numbers of the nodes that have it. A missing label is the value ""."""
        return self._of(key, False, nodes).numbers  # noqa: FBT003

    def value_of(self, key: str, nodes: Iterable[tuple[int, Node]]) -> Mapping[int, str]:
        """Number of each node -> its value, as it stands."""
        return self._of(key, False, nodes).by_number  # noqa: FBT003

    def value_mask(self, key: str, value: str, size: int) -> int:
        """The nodes with this value of an attribute whose `values` were just asked for."""
        return self._values[key, False].mask(value, size)

    def _of(self, key: str, is_folded: bool, nodes: Iterable[tuple[int, Node]]) -> _Values:  # noqa: FBT001
        values = self._values.get((key, is_folded))
        if values is not None:
            self._values.move_to_end((key, is_folded))
            return values
        values = self._values[key, is_folded] = _Values(is_folded=is_folded)
        self.visits += values.fill(key, nodes)
        if len(self._values) > KEYS_MAX:
            self._values.popitem(last=False)
        return values

    def _by_address(self, constraint: Constraint, nodes: Iterable[tuple[int, Node]], everyone: int) -> int:
        mask = self._addresses.get(constraint)
        if mask is not None:
            self._addresses.move_to_end(constraint)
            return mask
        mask = mask_of((number for number, node in nodes if matches(node, constraint)), everyone.bit_length())
        self.visits += everyone.bit_count()
        self._addresses[constraint] = mask
        if len(self._addresses) > ADDRESSES_MAX:
            self._addresses.popitem(last=False)
        return mask
