"""Which nodes have how much of one resource free, by eighths of powers of two ("octaves" below).

Only nodes in the request's octave need an exact test: every higher one fits, every lower one does not. A node's bit
moves only when its free amount crosses such a step.
"""

from __future__ import annotations

from typing import Final

from swarmd.scheduler.masks import move_bits

_STEPS_BITS: Final = 3
"""An octave is cut into 2^3 steps: an eighth of the exact tests, for a few masks more."""


def octave(free: int) -> int:
    """The step of a free amount; it grows with the amount. An overcommitted node counts as having nothing."""
    if free <= 0:
        return 0
    length = free.bit_length()
    return (length << _STEPS_BITS) | ((free << _STEPS_BITS >> (length - 1)) & ((1 << _STEPS_BITS) - 1))


class Room:
    """`octave -> mask` for one resource."""

    def __init__(self) -> None:
        self._masks: dict[int, int] = {}

    @property
    def is_empty(self) -> bool:
        """Whether no node is in it."""
        return not self._masks

    def place(self, bit: int, free: int) -> None:
        """A node appears with `free`."""
        key = octave(free)
        self._masks[key] = self._masks.get(key, 0) | bit

    def drop(self, bit: int, free: int) -> None:
        """A node that has `free` disappears."""
        key = octave(free)
        left = self._masks.get(key, 0) & ~bit
        if left:
            self._masks[key] = left
        else:
            self._masks.pop(key, None)

    def change(self, number: int, old_free: int, new_free: int) -> None:
        """The free amount of node `number` changed."""
        old, new = octave(old_free), octave(new_free)
        if old != new:
            move_bits(self._masks, 1 << number, old, new)

    def surely(self, request: int) -> int:
        """Nodes of higher octaves than the request's: they fit."""
        border = octave(request)
        mask = 0
        for key, nodes in self._masks.items():
            if key > border:
                mask |= nodes
        return mask

    def perhaps(self, request: int) -> int:
        """Nodes of the request's own octave: they need the exact test."""
        return self._masks.get(octave(request), 0)
