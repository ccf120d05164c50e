"""The feature level is what every manager has, and never falls."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from msgspec.structs import replace

from swarmd.errors import FailedPrecondition
from swarmd.model import Membership, Node, NodeDescription, RemovedNode, Resource, Role, Secret, Service, StoredObject
from swarmd.node.founding import FEATURES
from swarmd.state import features_of_managers, raised_feature_level
from swarmd.state.features import KINDS, feature_needed
from swarmd.state.selectors import ByName, ByReferencedSecret
from tests.unit.state.builders import (
    Proposer,
    config,
    extension,
    indices,
    network,
    node,
    resource,
    secret,
    service,
    swarm,
    task,
    template,
    volume,
)

GIVEN = ((["w1"], [], []), ([], ["x1"], []), ([], [], ["c1"]))


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


# -- what a kind of object or field needs ------------------------------------------------------------------------------
def with_indices(object: Any) -> Any:
    return replace(object, spec=replace(object.spec, indices=indices(("a", "b"))))


OLD = (node("n1"), service("s1"), swarm("base.1"), RemovedNode(id="r1"), task("t1"))
NEW = (
    *(network("w1"), secret("x1"), config("c1"), volume("v1"), extension("e1"), resource("r1", "e1")),
    *(with_indices(node("n1")), with_indices(service("s1")), with_indices(swarm())),
    *[replace(service("s1"), spec=replace(service("s1").spec, task=template(*given))) for given in GIVEN],
)


@pytest.mark.parametrize("object", OLD, ids=lambda object: type(object).__name__)
def test_what_was_there_from_the_first_version_on_needs_nothing(object: StoredObject) -> None:
    assert feature_needed(object) == ""


@pytest.mark.parametrize("object", NEW, ids=lambda object: type(object).__name__)
def test_what_came_later_is_written_once_every_manager_knows_it(object: StoredObject, proposer: Proposer) -> None:
    assert feature_needed(object) == KINDS
    proposer.create(swarm("base.1"), node("n1"), service("s1"))
    if isinstance(object, Resource):
        return  # its extension cannot be there
    exists = proposer.state.get(type(object), object.id) is not None
    tx = proposer.begin()
    with pytest.raises(FailedPrecondition, match="not every manager"):
        (tx.update if exists else tx.create)(object)
    assert tx.is_empty
    proposer.update(lambda tx: tx.update(swarm("base.1", KINDS)))
    proposer.update(lambda tx: (tx.update if exists else tx.create)(object))


def test_every_kind_is_known_to_be_old_or_new() -> None:
    assert {type(object) for object in (*OLD, *NEW)} == set(get_args(StoredObject))


def test_without_a_swarm_there_is_no_feature(proposer: Proposer) -> None:
    with pytest.raises(FailedPrecondition):
        proposer.create(network("w1"))


def test_not_even_that_there_is_none_is_said_to_managers_that_do_not_know_the_kind(proposer: Proposer) -> None:
    """Golden commands claim and require such things: a manager without the feature stops at them."""
    proposer.create(swarm("base.1"), service("s1"))
    tx = proposer.begin()
    for look in (
        lambda: tx.get(Secret, "x1"),
        lambda: tx.find(Secret, ByName("x1")),
        lambda: tx.find(Service, ByReferencedSecret("x1")),
    ):
        with pytest.raises(FailedPrecondition, match="not every manager"):
            look()
    assert tx.get(Secret, "x1", unchecked=True) is None
    assert tx.find(Service, ByReferencedSecret("x1"), unchecked=True) == ()
    assert len(tx.find(Service, ByName("s1"))) == 1
    command = proposer.command(tx)
    assert [claim.index for claim in command.claims] == ["service.name"]
    assert command.changes == ()


def test_a_new_swarm_has_it_from_the_start() -> None:
    assert KINDS in FEATURES
