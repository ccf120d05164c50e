"""The feature level is what every manager has, and never falls."""

from __future__ import annotations

from msgspec.structs import replace

from swarmd.model import Membership, Node, NodeDescription, Role
from swarmd.state import features_of_managers, raised_feature_level
from tests.unit.state.builders import node


def manager(id: str, *features: str, role: Role = Role.MANAGER) -> Node:
    return replace(node(id), role=role, description=NodeDescription(features=features))


def test_only_what_every_manager_announces_counts() -> None:
    nodes = [manager("n1", "a", "b", "c"), manager("n2", "c", "b"), manager("n3", "a", role=Role.WORKER)]
    assert features_of_managers(nodes) == ("b", "c")


def test_a_node_that_is_to_become_a_manager_counts_and_one_not_let_in_does_not() -> None:
    promoted = replace(manager("n2", "a", role=Role.WORKER), spec=replace(node("x").spec, desired_role=Role.MANAGER))
    stranger = replace(manager("n3"), spec=replace(node("x").spec, membership=Membership.PENDING))
    assert features_of_managers([manager("n1", "a", "b"), promoted, stranger]) == ("a",)


def test_without_managers_there_are_no_features() -> None:
    assert features_of_managers([]) == ()


def test_the_level_rises_and_never_falls() -> None:
    assert raised_feature_level(("old",), [manager("n1", "new")]) == ("new", "old")
