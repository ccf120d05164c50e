"""Roles follow what is wanted, never ahead of Raft (reference raft-store-node 4.5)."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from swarmd.errors import FailedPrecondition
from swarmd.manager.loops import RoleManagerLoop
from swarmd.model import Node, NodeSpec, RemovedNode, Role
from swarmd.raft import Configuration, Member
from swarmd.state.command import Table
from tests.unit.manager.local_store import LocalStore

OWN = "own"


class FakeMembership:
    """Members by node id. `refusals` are used up one by one, by whichever change comes."""

    own_node_id = OWN

    def __init__(self, *node_ids: str) -> None:
        self.node_ids = list(node_ids)
        self.calls: list[str] = []
        self.refusals: list[str] = []

    def configuration(self) -> Configuration:
        members = [Member(member_id=i + 1, node_id=id, is_voter=True) for i, id in enumerate(self.node_ids)]
        return Configuration(members=tuple(members))

    async def remove_member(self, node_id: str) -> None:
        await trio.lowlevel.checkpoint()
        self._call(f"remove {node_id}")
        self.node_ids.remove(node_id)

    async def transfer_leadership(self) -> None:
        await trio.lowlevel.checkpoint()
        self._call("transfer")

    def _call(self, what: str) -> None:
        self.calls.append(what)
        if self.refusals:
            raise FailedPrecondition(self.refusals.pop(0))


@pytest.fixture
def store() -> LocalStore:
    return LocalStore()


def make_node(id: str, role: Role, desired: Role) -> Node:
    return Node(id=id, role=role, spec=NodeSpec(desired_role=desired))


def want(store: LocalStore, id: str, role: Role) -> None:
    node = store.state.node(id)
    assert node is not None
    store.write(lambda tx: tx.update(replace(node, spec=NodeSpec(desired_role=role))))


def role(store: LocalStore, id: str) -> Role:
    node = store.state.node(id)
    assert node is not None
    return node.role


@asynccontextmanager
async def running(store: LocalStore, membership: FakeMembership) -> AsyncIterator[None]:
    loop = RoleManagerLoop(store, membership, now=store.now, rng=random.Random(1))
    async with trio.open_nursery() as nursery:
        await nursery.start(loop.run)
        yield
        nursery.cancel_scope.cancel()


async def test_a_promoted_node_is_certified_as_a_manager_at_once(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(make_node("a", Role.WORKER, Role.WORKER))
    membership = FakeMembership(OWN)
    async with running(store, membership):
        want(store, "a", Role.MANAGER)
        await trio.sleep(0.1)
    assert role(store, "a") is Role.MANAGER
    assert membership.calls == []
    assert store.commands[-1].actor == "leader:role-manager"


async def test_a_demoted_manager_leaves_raft_before_its_role_changes(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(make_node("a", Role.MANAGER, Role.MANAGER))
    membership = FakeMembership(OWN, "a", "b")
    membership.refusals = ["this would lose the quorum"]
    async with running(store, membership):
        await trio.sleep(1)
        want(store, "a", Role.WORKER)
        await trio.sleep(1)
        assert role(store, "a") is Role.MANAGER
        await trio.sleep(5)
    assert role(store, "a") is Role.WORKER
    assert membership.node_ids == [OWN, "b"]
    assert membership.calls == ["remove a", "remove a"]


async def test_an_unsafe_change_is_tried_every_five_seconds_and_logged_once(
    store: LocalStore, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    store.create(make_node("a", Role.MANAGER, Role.WORKER))
    membership = FakeMembership(OWN, "a")
    membership.refusals = ["this would lose the quorum"] * 100
    async with running(store, membership):
        await trio.sleep(22)
    assert len(membership.calls) == 5
    assert [r.levelno for r in caplog.records] == [logging.WARNING]


async def test_a_demoted_leader_hands_over_and_leaves_the_rest_to_its_successor(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(make_node(OWN, Role.MANAGER, Role.WORKER))
    membership = FakeMembership(OWN, "a", "b")
    async with running(store, membership):
        await trio.sleep(1)
    assert membership.calls == ["transfer"]
    assert role(store, OWN) is Role.MANAGER


async def test_a_demoted_leader_with_nobody_to_hand_over_to_removes_itself(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(make_node(OWN, Role.MANAGER, Role.WORKER))
    membership = FakeMembership(OWN, "a")
    membership.refusals = ["nobody is up to date"]
    async with running(store, membership):
        await trio.sleep(1)
    assert membership.calls == ["transfer", f"remove {OWN}"]
    assert role(store, OWN) is Role.WORKER


async def test_a_demoted_node_that_is_no_member_becomes_a_worker_at_once(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(make_node("a", Role.MANAGER, Role.WORKER))
    async with running(store, FakeMembership(OWN)):
        await trio.sleep(0.1)
    assert role(store, "a") is Role.WORKER


async def test_the_member_of_a_removed_node_is_removed(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(make_node("a", Role.WORKER, Role.WORKER), RemovedNode(id="before"))
    membership = FakeMembership(OWN, "a", "before")
    async with running(store, membership):
        await trio.sleep(0.1)
        store.write(lambda tx: (tx.remove(Table.NODE, "a"), tx.create(RemovedNode(id="a"))))
        await trio.sleep(0.1)
    assert membership.node_ids == [OWN]


async def test_a_member_without_a_record_is_left_alone(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    """Its node record may be about to appear: at bootstrap that of the leader itself."""
    membership = FakeMembership(OWN, "a")
    async with running(store, membership):
        await trio.sleep(10)
    assert membership.calls == []


async def test_a_change_of_mind_while_leaving_is_followed(
    store: LocalStore, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(make_node("a", Role.MANAGER, Role.WORKER))
    membership = FakeMembership(OWN, "a")
    membership.refusals = ["not now"]
    async with running(store, membership):
        await trio.sleep(1)
        want(store, "a", Role.MANAGER)
        await trio.sleep(10)
    assert membership.node_ids == [OWN, "a"]
    assert role(store, "a") is Role.MANAGER
