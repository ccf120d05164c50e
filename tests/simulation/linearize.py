"""Whether a history of one register could have happened in some order (Wing and Gong, memoised)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FOREVER = 1 << 60


@dataclass
class Operation:
    """A write or a read from `began` to `ended`; both ends count as inside.

    A write whose outcome is unknown never ends; a read that failed is not in the history at all.
    """

    is_write: bool
    value: int
    began: int
    ended: int = FOREVER
    rank: int = 0
    """Writes of lower rank are tried first (the log's order): it changes how long the search takes, not its answer."""


def linearizable(history: Sequence[Operation], initial: int = 0) -> bool:
    """Whether some order explains every read, each operation taking effect between its ends.

    An operation may go next only if no other that is still to go ended before it began. A state of the search is how
    long a prefix (by beginning) is done, which later ones are done too, and the register's value.
    """
    operations = sorted(history, key=lambda operation: operation.began)
    seen: set[tuple[int, int, int]] = set()
    stack = [(0, 0, initial)]
    while stack:
        state = stack.pop()
        if state in seen:
            continue
        seen.add(state)
        following = _next(operations, *state)
        if following is None:
            return True
        stack.extend(following)
    return False


def _next(operations: Sequence[Operation], prefix: int, done: int, value: int) -> list[tuple[int, int, int]] | None:
    """The states one operation further; None if everything that ended is done."""
    following: list[tuple[int, tuple[int, int, int]]] = []
    earliest_end = FOREVER
    for at in range(prefix, len(operations)):
        operation = operations[at]
        if operation.began > earliest_end:
            break
        if done >> (at - prefix) & 1:
            continue
        earliest_end = min(earliest_end, operation.ended)
        if operation.is_write:
            following.append((-operation.rank, _after(prefix, done | 1 << (at - prefix), operation.value)))
        elif operation.value == value:
            # a read that fits may as well go now: it changes nothing for the others
            return [_after(prefix, done | 1 << (at - prefix), value)]
    if earliest_end == FOREVER:
        return None
    return [state for _, state in sorted(following)]  # the last is tried first


def _after(prefix: int, done: int, value: int) -> tuple[int, int, int]:
    while done & 1:
        done >>= 1
        prefix += 1
    return prefix, done, value
