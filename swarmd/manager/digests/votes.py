"""Whose state is right: what members hold at agreed indexes, put to the vote. Pure.

Right is what a quorum of the voters holds. Fewer prove nothing: they may be those that are wrong.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Final

import msgspec

from swarmd.raft import Configuration
from swarmd.raft.quorum import is_quorum
from swarmd.wire.peer import DigestPoint

Points = Mapping[int, DigestPoint]
"""One member's, by index."""

HISTORY: Final = "history"
"""Another entry was applied, or the same one with another verdict."""
CONTENT: Final = "content"
"""The same history, and other objects."""


class Divergence(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A member that holds something else than a quorum of the voters."""

    member_id: int
    index: int
    """The oldest at which that is known."""
    of: str
    """`history` or `content`."""
    majority: tuple[int, ...]
    """Who held the right state there."""


class Findings(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the points say about the members that take part."""

    agreed_at: int = 0
    """The newest index at which a quorum of voters has a point, and nobody another one; 0: there is none."""
    agreeing: tuple[int, ...] = ()
    """Who has a point there."""
    diverging: tuple[Divergence, ...] = ()
    """One for each such member, ascending."""
    undecided_at: int = 0
    """The oldest index at which members differ that are not `diverging`: no side is a quorum."""
    sides: tuple[tuple[int, ...], ...] = ()
    """Who holds the same there, the greatest side first."""

    def of_member(self, member_id: int) -> Divergence | None:
        """What is known against this member."""
        return next((found for found in self.diverging if found.member_id == member_id), None)


class _Split(msgspec.Struct, frozen=True, gc=False):
    """An index at which not all hold the same."""

    index: int
    of: str
    sides: tuple[tuple[int, ...], ...]


def judge(configuration: Configuration, reports: Mapping[int, Points]) -> Findings:
    """Compare the points of the members in `configuration`; those of others count nothing.

    A member without a point at an index says nothing about it: it may have restored a snapshot since, or be behind.
    """
    present = {m.member_id: reports[m.member_id] for m in configuration.members if reports.get(m.member_id)}
    voters = configuration.voters
    agreed_at, agreeing = 0, tuple[int, ...]()
    splits: list[_Split] = []
    for index in sorted({index for points in present.values() for index in points}, reverse=True):
        here = {member_id: points[index] for member_id, points in present.items() if index in points}
        split = _split_at(index, here)
        if split is not None:
            splits.append(split)
        elif not agreed_at and is_quorum(here, voters):
            agreed_at, agreeing = index, tuple(sorted(here))
    diverging = _diverging(splits, voters)
    undecided = _undecided(splits, diverging)
    return Findings(
        agreed_at=agreed_at,
        agreeing=agreeing,
        diverging=tuple(diverging[member_id] for member_id in sorted(diverging)),
        undecided_at=undecided.index if undecided is not None else 0,
        sides=undecided.sides if undecided is not None else (),
    )


def _split_at(index: int, here: Mapping[int, DigestPoint]) -> _Split | None:
    """How the members with a point at `index` fall apart; None if they do not."""
    by_history = _sides((member_id, point.digest) for member_id, point in here.items())
    if len(by_history) > 1:
        return _Split(index, HISTORY, by_history)
    by_content = _sides((member_id, point.state_hash) for member_id, point in here.items() if point.state_hash)
    return _Split(index, CONTENT, by_content) if len(by_content) > 1 else None


def _sides(held: Iterable[tuple[int, Hashable]]) -> tuple[tuple[int, ...], ...]:
    sides: dict[Hashable, list[int]] = {}
    for member_id, what in held:
        sides.setdefault(what, []).append(member_id)
    return tuple(sorted((tuple(sorted(side)) for side in sides.values()), key=lambda side: (-len(side), side)))


def _diverging(splits: Iterable[_Split], voters: tuple[int, ...]) -> dict[int, Divergence]:
    """Everybody who is on another side than a quorum. `splits` come newest first, so the oldest stays."""
    found: dict[int, Divergence] = {}
    for split in splits:
        right = next((side for side in split.sides if is_quorum(side, voters)), None)
        if right is None:
            continue
        for member_id in (m for side in split.sides if side is not right for m in side):
            found[member_id] = Divergence(member_id=member_id, index=split.index, of=split.of, majority=right)
    return found


def _undecided(splits: Iterable[_Split], diverging: Mapping[int, Divergence]) -> _Split | None:
    """The oldest split that remains among those against whom nothing is proved. `splits` come newest first."""
    oldest = None
    for split in splits:
        left = tuple(tuple(m for m in side if m not in diverging) for side in split.sides)
        sides = tuple(sorted((side for side in left if side), key=lambda side: (-len(side), side)))
        if len(sides) > 1:
            oldest = _Split(split.index, split.of, sides)
    return oldest
