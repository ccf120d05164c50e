from __future__ import annotations

import random

import msgspec
import pytest
import trio
import trio.testing

from swarmd.errors import Conflict
from swarmd.manager.feature_level import FeatureLevelLoop
from swarmd.model import Cluster, Node, NodeDescription, NodeSpec, Role
from tests.unit.manager.local_store import LocalStore

KNOWN = ("base.1", "secrets.1")


def manager(node_id: str, *features: str, role: Role = Role.MANAGER) -> Node:
    spec = NodeSpec(desired_role=role)
    return Node(id=node_id, role=role, spec=spec, description=NodeDescription(features=features))


def announce(store: LocalStore, node_id: str, *features: str) -> None:
    node = store.state.node(node_id)
    assert node is not None
    store.write(lambda tx: tx.update(msgspec.structs.replace(node, description=NodeDescription(features=features))))


def level(store: LocalStore) -> tuple[str, ...]:
    cluster = store.state.cluster()
    assert cluster is not None
    return cluster.feature_level


@pytest.fixture
def store() -> LocalStore:
    store = LocalStore()
    store.create(Cluster(id="c", feature_level=("base.1",)), manager("a", *KNOWN), manager("b", "base.1"))
    return store


async def test_a_feature_counts_once_every_manager_has_announced_it(
    autojump_clock: trio.testing.MockClock, store: LocalStore
) -> None:
    store.create(manager("worker", role=Role.WORKER))
    async with trio.open_nursery() as nursery:
        await nursery.start(FeatureLevelLoop(store, known=KNOWN, rng=random.Random(1)).run)
        await trio.sleep(1)
        assert level(store) == ("base.1",)
        announce(store, "b", *KNOWN, "executor.process")
        await trio.sleep(1)
        assert level(store) == KNOWN
        assert store.commands[-1].term == store.term
        nursery.cancel_scope.cancel()


async def test_it_never_falls_and_what_is_none_of_the_logs_business_is_left_out(
    autojump_clock: trio.testing.MockClock, store: LocalStore
) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(FeatureLevelLoop(store, known=KNOWN, rng=random.Random(1)).run)
        announce(store, "a", "executor.process")
        announce(store, "b", "executor.process")
        await trio.sleep(1)
        assert level(store) == ("base.1",)
        nursery.cancel_scope.cancel()


async def test_a_conflict_is_tried_again(autojump_clock: trio.testing.MockClock, store: LocalStore) -> None:
    announce(store, "b", *KNOWN)
    store.failures.append(Conflict("others were faster"))
    async with trio.open_nursery() as nursery:
        await nursery.start(FeatureLevelLoop(store, known=KNOWN, rng=random.Random(1)).run)
        await trio.sleep(3)
        assert level(store) == KNOWN
        nursery.cancel_scope.cancel()
