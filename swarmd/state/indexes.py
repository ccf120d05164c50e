"""Indexes: `dict key -> dict id -> None`, changed as objects change, and what a command may rely on of them.

No sets: dicts of strings to None stay out of the collector's sight (performance-scheduler 2). Must not know commands'
makers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

from swarmd.model import Availability, Membership, Node, NodeState, StoredObject
from swarmd.state.command import Claim

O = TypeVar("O", bound=StoredObject)  # noqa: E741

NODE_SCHEDULABLE: Final = "node.schedulable"


def is_schedulable(node: Node | None) -> bool:
    """Whether `node` takes new tasks: accepted, ACTIVE, READY, and seen by the present leader."""
    return (
        node is not None
        and node.status.state is NodeState.READY
        and node.status.confirmed
        and node.spec.availability is Availability.ACTIVE
        and node.spec.membership is Membership.ACCEPTED
    )


class Holders:
    """Which objects hold which key, in the order in which they came to hold it.

    Args:
        name: as it stands in claims.
        is_versioned: claimed by the entry that last changed the key's set, because the set may be large.
    """

    __slots__ = ("changed_at", "holders", "is_versioned", "name")

    def __init__(self, name: str, *, is_versioned: bool) -> None:
        self.name = name
        self.is_versioned = is_versioned
        self.holders: dict[str, dict[str, None]] = {}
        self.changed_at: dict[str, int] = {}
        """Versioned only: key -> entry that last changed the set. A set that empties is forgotten."""

    def ids(self, key: str) -> tuple[str, ...]:
        """Who holds `key`."""
        return tuple(self.holders.get(key, ()))

    def ids_by_prefix(self, prefix: str) -> Iterator[str]:
        """Who holds a key that begins with `prefix`, some more than once. Walks all keys."""
        for key, held in self.holders.items():
            if key.startswith(prefix):
                yield from held

    def hold(self, key: str, id: str, at_index: int) -> None:
        """`id` now holds `key`."""
        if key:
            held = self.holders.get(key)
            if held is None:
                self.holders[key] = {id: None}
            else:
                held[id] = None
            if self.is_versioned:
                self.changed_at[key] = at_index

    def drop(self, key: str, id: str, at_index: int) -> None:
        """`id` no longer holds `key`."""
        if not key:
            return
        held = self.holders[key]
        del held[id]
        if not held:
            del self.holders[key]
            self.changed_at.pop(key, None)
        elif self.is_versioned:
            self.changed_at[key] = at_index

    def claim(self, key: str) -> Claim:
        """What a transaction that looked at `key` relies on."""
        if self.is_versioned and key in self.changed_at:
            return Claim(self.name, key, version=self.changed_at[key])
        return Claim(self.name, key, self.ids(key))

    def upholds(self, claim: Claim) -> bool:
        """Whether `claim` is true now."""
        if claim.version:
            return self.changed_at.get(claim.key) == claim.version
        held = self.holders.get(claim.key)
        if held is None:
            return not claim.holders
        return held.keys() == frozenset(claim.holders)


class Index(Holders, Generic[O]):
    """Each object has one key at most.

    Args:
        key_of: the object's key; "" means none.
        is_unique: at most one holder a key.
    """

    __slots__ = ("is_unique", "key_of")

    def __init__(
        self,
        name: str,
        key_of: Callable[[O], str],
        *,
        is_unique: bool = False,
        is_versioned: bool = False,
    ) -> None:
        super().__init__(name, is_versioned=is_versioned)
        self.key_of = key_of
        self.is_unique = is_unique

    def has(self, object: O, key: str) -> bool:
        """Whether `object` has `key`, which is not ""."""
        return self.key_of(object) == key


class ManyIndex(Holders, Generic[O]):
    """Each object has any number of keys, mostly none. The sets may be large, so they are claimed by version.

    Args:
        keys_of: the object's keys, each once, none of them "".
    """

    __slots__ = ("keys_of",)

    def __init__(self, name: str, keys_of: Callable[[O], tuple[str, ...]]) -> None:
        super().__init__(name, is_versioned=True)
        self.keys_of = keys_of

    def has(self, object: O, key: str) -> bool:
        """Whether `key` is one of the object's keys."""
        return key in self.keys_of(object)

    def replace(self, id: str, old: O | None, new: O | None, at_index: int) -> None:
        """`old` became `new` (None: it was not there, it is gone)."""
        before = self.keys_of(old) if old is not None else ()
        after = self.keys_of(new) if new is not None else ()
        if before != after:
            for key in before:
                if key not in after:
                    self.drop(key, id, at_index)
            for key in after:
                if key not in before:
                    self.hold(key, id, at_index)


AnyIndex = Index[O] | ManyIndex[O]


class SchedulableNodes:
    """The index `node.schedulable`, computed: a node that takes new tasks holds its own id.

    It says nothing of the node's version, so heartbeats, descriptions and labels conflict with no assignment.
    """

    name = NODE_SCHEDULABLE

    def __init__(self, nodes: dict[str, Node]) -> None:
        self._nodes = nodes

    def claim(self, key: str) -> Claim:
        """What a transaction that asked for `key` relies on."""
        return Claim(self.name, key, (key,) if is_schedulable(self._nodes.get(key)) else ())

    def upholds(self, claim: Claim) -> bool:
        """Whether `claim` is true now."""
        return bool(claim.holders) == is_schedulable(self._nodes.get(claim.key))
