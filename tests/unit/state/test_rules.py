"""What extensions and resources may do to each other, within one transaction or one command."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from swarmd.errors import AlreadyExists, FailedPrecondition, Invalid, SwarmError
from swarmd.model import Annotations, Extension, Resource
from swarmd.state import Command, CommandId, Table, Transaction, Verdict
from swarmd.state.command import TYPE_OF_TABLE, Create, Remove
from swarmd.state.rules import NAMES_MAX, RESERVED_KINDS
from tests.unit.state.builders import Proposer, extension, resource, swarm


def refused(store: Proposer, fn: Callable[[Transaction], object]) -> SwarmError:
    with pytest.raises(SwarmError) as caught:
        store.update(fn)
    return caught.value


def test_each_kind_of_the_swarms_own_is_reserved() -> None:
    assert {table.name.lower() for table in TYPE_OF_TABLE} == RESERVED_KINDS


def test_within_one_transaction_the_order_decides(proposer: Proposer) -> None:
    proposer.create(swarm())

    def both(tx: Transaction) -> None:
        tx.create(extension("e1", "kind"))
        tx.create(resource("r1", "KIND"))

    proposer.update(both)
    too_early = refused(proposer, lambda tx: (tx.remove(Table.EXTENSION, "e1"), tx.remove(Table.RESOURCE, "r1")))
    assert isinstance(too_early, FailedPrecondition)
    proposer.update(lambda tx: (tx.remove(Table.RESOURCE, "r1"), tx.remove(Table.EXTENSION, "e1")))
    assert proposer.state.get(Extension, "e1") is None


def test_what_is_refused_names_the_field_or_the_resources(proposer: Proposer) -> None:
    proposer.create(swarm(), extension("e1", "kind"))
    unknown = refused(proposer, lambda tx: tx.create(resource("r1", "other")))
    assert isinstance(unknown, Invalid)
    assert unknown.field == "$.kind"
    reserved = refused(proposer, lambda tx: tx.create(extension("e2", "Removed_Node")))
    assert isinstance(reserved, AlreadyExists)
    proposer.create(*[resource(f"r{number:02}", "kind") for number in range(NAMES_MAX + 2)])
    in_use = refused(proposer, lambda tx: tx.remove(Table.EXTENSION, "e1"))
    assert in_use.message.endswith("r08, r09 and 2 more")


def test_a_resource_may_change_to_a_kind_that_exists_and_to_no_other(proposer: Proposer) -> None:
    proposer.create(swarm(), extension("e1", "one"), extension("e2", "two"), resource("r1", "one"))
    assert isinstance(refused(proposer, lambda tx: tx.update(resource("r1", "three"))), Invalid)
    proposer.update(lambda tx: tx.update(resource("r1", "TWO")))
    proposer.update(lambda tx: tx.remove(Table.EXTENSION, "e1"))


def test_an_extension_without_a_name_has_no_resources(proposer: Proposer) -> None:
    proposer.create(swarm(), replace(extension("e1"), annotations=Annotations()))
    assert isinstance(refused(proposer, lambda tx: tx.create(resource("r1", ""))), Invalid)


def by_hand(store: Proposer, *changes: Create | Remove) -> Verdict:
    return store.apply(Command(id=CommandId(1, b"b", 1), actor="a", at=1.0, changes=changes)).verdict


def test_a_command_is_judged_by_what_it_leaves(proposer: Proposer) -> None:
    proposer.create(swarm(), extension("e1", "kind"), resource("r1", "kind"))
    held = (proposer.state.get(Extension, "e1"), proposer.state.get(Resource, "r1"))
    e1, r1 = (object.meta.version for object in held if object is not None)
    assert by_hand(proposer, Remove(Table.EXTENSION, "e1", e1)) is Verdict.CONFLICT
    handed_on = (Remove(Table.EXTENSION, "e1", e1), Create(extension("e2", "KIND")))
    assert by_hand(proposer, *handed_on) is Verdict.APPLIED
    e2 = proposer.state.get(Extension, "e2")
    assert e2 is not None
    together = (Remove(Table.EXTENSION, "e2", e2.meta.version), Remove(Table.RESOURCE, "r1", r1))
    assert by_hand(proposer, *together) is Verdict.APPLIED
    assert by_hand(proposer, Create(resource("r2", "new")), Create(extension("e3", "new"))) is Verdict.APPLIED


def test_thousands_of_resources_in_one_command_are_judged_in_passing(proposer: Proposer) -> None:
    """Were each judged by a walk over all, this would take minutes."""
    proposer.create(swarm(), extension("e1", "kind"))
    many = [Create(resource(f"r{number}", "kind")) for number in range(8_000)]
    assert by_hand(proposer, *many) is Verdict.APPLIED
