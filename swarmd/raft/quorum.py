"""Majorities: of votes, and of positions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum


class PollResult(Enum):
    """How a vote stands."""

    PENDING = 0
    WON = 1
    LOST = 2


def majority(voters: int) -> int:
    """How many of `voters` are a quorum."""
    return voters // 2 + 1


def failures_tolerated(voters: int) -> int:
    """How many of `voters` may be down while the rest can still decide."""
    return voters - majority(voters) if voters else 0


def reached_by_majority(positions: list[int]) -> int:
    """The greatest position that a majority has reached; `positions` holds one per voter and is sorted in place."""
    positions.sort()
    return positions[len(positions) - majority(len(positions))]


def is_quorum(present: Collection[int], voters: Collection[int]) -> bool:
    """Whether those `present` are a majority of `voters`; nobody is no quorum of nobody."""
    return bool(voters) and sum(1 for voter in voters if voter in present) >= majority(len(voters))


def count_votes(votes: Mapping[int, bool], voters: Collection[int]) -> PollResult:
    """Count only what `voters` said; a member that has not answered may still say either."""
    granted = sum(1 for voter in voters if votes.get(voter) is True)
    refused = sum(1 for voter in voters if votes.get(voter) is False)
    needed = majority(len(voters))
    if voters and granted >= needed:
        return PollResult.WON
    if not voters or refused > len(voters) - needed:
        return PollResult.LOST
    return PollResult.PENDING
