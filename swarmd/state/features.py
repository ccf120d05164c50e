"""The feature level: what replicated data may use, because every manager has announced it."""

from __future__ import annotations

from collections.abc import Iterable

from swarmd.model import Membership, Node, Role


def features_of_managers(nodes: Iterable[Node]) -> tuple[str, ...]:
    """The features that every manager among `nodes` has announced, sorted. A node that is to become one counts."""
    announced = [
        frozenset(node.description.features)
        for node in nodes
        if node.spec.membership is Membership.ACCEPTED and Role.MANAGER in (node.role, node.spec.desired_role)
    ]
    return tuple(sorted(frozenset.intersection(*announced))) if announced else ()


def raised_feature_level(level: Iterable[str], nodes: Iterable[Node]) -> tuple[str, ...]:
    """`level` with what all managers have announced by now. It never shrinks: stored data may use it already."""
    return tuple(sorted(frozenset(level) | frozenset(features_of_managers(nodes))))
