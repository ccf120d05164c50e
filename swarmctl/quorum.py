"""What a change of the managers costs or gains, in words."""

from __future__ import annotations

from collections.abc import Iterable

from swarmd.model import Membership, Role
from swarmd.wire.control import NodeView


def count_managers(views: Iterable[NodeView]) -> int:
    """How many voters there will be once everything that was asked for has taken effect."""
    return sum(
        view.node.spec.desired_role is Role.MANAGER and view.node.spec.membership is Membership.ACCEPTED
        for view in views
    )


def tolerated(voters: int) -> int:
    """How many of them may fail while the rest can still decide."""
    return max(0, (voters - 1) // 2)


def change_in_words(before: int, after: int) -> str:
    """`managers: 3 -> 2 voters; failures tolerated: 1 -> 0`."""
    return f"managers: {before} -> {after} voters; failures tolerated: {tolerated(before)} -> {tolerated(after)}"


def warning(before: int, after: int) -> str:
    """What to beware of after the change; empty if nothing."""
    if after == 2 and before == 1:
        return "Warning: of two managers none may fail, so the swarm is more fragile than with one; add a third"
    return ""
