"""Generic resources of nodes: amounts, and sets whose members are given out by name (reference orchestration 7.5).

What is free is always what the node has less what its tasks hold, so that whatever a node says of itself later cannot
leave a wrong balance behind: an amount that shrank below what is held leaves nothing, members that are gone are not
given out again, and a kind that turned from amount to set, or back, begins anew.
"""

from __future__ import annotations

from collections import Counter

from swarmd.model import GenericResource
from swarmd.scheduler.room import Room

Resources = tuple[GenericResource, ...]


class _Kind:
    """One kind on one node: `names` or `amount` as described, and what is held of each."""

    __slots__ = ("amount", "held", "held_names", "is_described", "names")

    def __init__(self) -> None:
        self.is_described = False
        self.amount = 0
        self.names: tuple[str, ...] = ()
        self.held = 0
        self.held_names: Counter[str] = Counter()

    @property
    def free(self) -> int:
        """What can still be given out; negative if more of an amount is held than there is."""
        if self.names:
            return sum(1 for name in self.names if not self.held_names[name]) if self.held_names else len(self.names)
        return self.amount - self.held

    @property
    def is_idle(self) -> bool:
        """Whether nothing needs to be remembered."""
        return not (self.is_described or self.held or self.held_names)


class GenericStock:
    """Free generic resources of all nodes, by number. `rooms` holds the nodes that have a kind at all."""

    def __init__(self) -> None:
        self.rooms: dict[str, Room] = {}
        self._nodes: dict[int, dict[str, _Kind]] = {}

    def free(self, number: int, kind: str) -> int:
        """How much of `kind` the node can give out."""
        known = self._nodes.get(number, {}).get(kind)
        return known.free if known is not None and known.is_described else 0

    def fits(self, number: int, wanted: Resources) -> bool:
        """Whether the node has enough of each."""
        return all(self.free(number, one.kind) >= one.amount for one in wanted)

    def perhaps(self, wanted: Resources) -> int:
        """The nodes that can have enough of each; those in a request's own octave need `fits`."""
        mask = -1
        for one in wanted:
            room = self.rooms.get(one.kind)
            if room is None:
                return 0
            mask &= room.surely(one.amount) | room.perhaps(one.amount)
        return mask

    def describe(self, number: int, old: Resources, new: Resources) -> None:
        """The node says it has `new`; it had said `old`."""
        if old == new:
            return
        for kind in {one.kind for one in old}.difference(one.kind for one in new):
            self._change(number, kind, is_described=False, amount=0, names=())
        for one in new:
            self._change(number, one.kind, is_described=True, amount=one.amount, names=one.names)

    def claim(self, number: int, wanted: Resources) -> Resources:
        """What a task gets of a node where it `fits`: the amounts, or the first members free. Takes nothing."""
        claimed = []
        for one in wanted:
            kind = self._nodes[number][one.kind]
            if kind.names:
                free = [name for name in kind.names if not kind.held_names[name]]
                claimed.append(GenericResource(kind=one.kind, names=tuple(free[: one.amount])))
            else:
                claimed.append(GenericResource(kind=one.kind, amount=one.amount))
        return tuple(claimed)

    def take(self, number: int, assigned: Resources) -> None:
        """A task holds `assigned`."""
        for one in assigned:
            self._hold(number, one, 1)

    def give_back(self, number: int, assigned: Resources) -> None:
        """It holds them no more."""
        for one in assigned:
            self._hold(number, one, -1)

    def _change(self, number: int, name: str, *, is_described: bool, amount: int, names: tuple[str, ...]) -> None:
        kind = self._nodes.setdefault(number, {}).setdefault(name, _Kind())
        was_described, before = kind.is_described, kind.free
        kind.is_described, kind.amount, kind.names = is_described, amount, names
        room = self.rooms.get(name)
        if was_described and room is not None:
            room.drop(1 << number, before)
        if is_described:
            self.rooms.setdefault(name, Room()).place(1 << number, kind.free)
        elif room is not None and room.is_empty:
            del self.rooms[name]
        self._tidy(number, name, kind)

    def _hold(self, number: int, one: GenericResource, sign: int) -> None:
        kind = self._nodes.setdefault(number, {}).setdefault(one.kind, _Kind())
        before = kind.free
        if one.names:
            for name in one.names:
                kind.held_names[name] += sign
                if not kind.held_names[name]:
                    del kind.held_names[name]
        else:
            kind.held += sign * one.amount
        if kind.is_described:
            self.rooms[one.kind].change(number, before, kind.free)
        self._tidy(number, one.kind, kind)

    def _tidy(self, number: int, name: str, kind: _Kind) -> None:
        if kind.is_idle:
            del self._nodes[number][name]
            if not self._nodes[number]:
                del self._nodes[number]
