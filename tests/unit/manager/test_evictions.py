"""Who was let in and may not stay."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
import trio.testing
from msgspec.structs import replace

from swarmd.manager.evictions import Evictions
from swarmd.manager.standing import StateStandings
from swarmd.model import Cluster, EarlierCertificate, Node, NodeCertificate, NodeStatus, RemovedNode, Role
from swarmd.state.command import Table
from swarmd.state.features import SECURITY
from swarmd.state.store import State
from swarmd.state.watch import EVENTS_MAX
from swarmd.wire.identity import Caller, Identity
from tests.unit.manager.local_store import EPOCH, LocalStore

SWARM: Final = "s"
LATER: Final = EPOCH + 1000


class Peer:
    """An open connection."""

    def __init__(self, node_id: str, role: Role, fingerprint: str) -> None:
        self.peer = Caller(
            identity=Identity(node_id=node_id, role=role, swarm_id=SWARM, fingerprint=fingerprint), address=node_id
        )
        self.ended = ""

    def abort(self, reason: str) -> None:
        self.ended = reason


class Anonymous(Peer):
    def __init__(self) -> None:
        self.peer = Caller(address="somewhere")
        self.ended = ""


class _Log:
    is_leading = False
    leader = 1

    def __init__(self, state: State) -> None:
        self.state = state


class World:
    def __init__(self) -> None:
        self.store = LocalStore()
        self.store.create(Cluster(id=SWARM, feature_level=(SECURITY,)))
        self.connections: list[Peer] = [Anonymous()]
        self.told = 0
        self.evictions = Evictions(
            lambda: self.store.state,
            StateStandings(SWARM, lambda: _Log(self.store.state)),
            lambda: self.connections,
            now=lambda: EPOCH,
            on_revoked=self._tell,
        )

    def _tell(self) -> None:
        self.told += 1

    def connect(self, node_id: str, role: Role, fingerprint: str) -> Peer:
        peer = Peer(node_id, role, fingerprint)
        self.connections.append(peer)
        return peer

    def add(self, node_id: str, role: Role, fingerprint: str) -> Peer:
        certificate = NodeCertificate(role=role, fingerprint=fingerprint, certificate=b"x", expires_at=LATER)
        self.store.create(Node(id=node_id, role=role, certificate=certificate))
        return self.connect(node_id, role, fingerprint)

    def change(self, node_id: str, change: Callable[[Node], Node]) -> None:
        def fn(tx: Any) -> None:
            node = tx.node(node_id)
            tx.update(change(node))

        self.store.write(fn)

    def remove(self, node_id: str, fingerprints: tuple[str, ...] = ()) -> None:
        self.store.write(
            lambda tx: (
                tx.remove(Table.NODE, node_id),  # type: ignore[func-returns-value]
                tx.create(RemovedNode(id=node_id, fingerprints=fingerprints)),  # type: ignore[func-returns-value]
            )
        )

    @property
    def ended(self) -> list[Peer]:
        return [peer for peer in self.connections if peer.ended]


@asynccontextmanager
async def running(world: World) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.evictions.run)
        await trio.testing.wait_all_tasks_blocked()
        yield
        nursery.cancel_scope.cancel()


def _demote(node: Node) -> Node:
    return replace(node, role=Role.WORKER)


def _renewed(role: Role, fingerprint: str, *, is_revoked: bool) -> Callable[[Node], Node]:
    def change(node: Node) -> Node:
        old = node.certificate
        earlier = EarlierCertificate(
            fingerprint=old.fingerprint, expires_at=LATER, role=old.role, is_revoked=is_revoked
        )
        return replace(node, certificate=replace(old, role=role, fingerprint=fingerprint, earlier=(earlier,)))

    return change


async def test_a_removed_nodes_connections_end_and_no_others() -> None:
    world = World()
    gone, stays = world.add("w1", Role.WORKER, "a"), world.add("w2", Role.WORKER, "b")
    second = world.connect("w1", Role.WORKER, "a")
    async with running(world):
        world.remove("w1")
        await trio.testing.wait_all_tasks_blocked()
    assert world.ended == [gone, second]
    assert "removed" in gone.ended
    assert not stays.ended
    assert world.told == 0


async def test_a_removed_managers_certificates_are_distrusted_until_its_record_goes() -> None:
    world = World()
    world.add("m1", Role.MANAGER, "a")
    async with running(world):
        world.remove("m1", ("a",))
        await trio.testing.wait_all_tasks_blocked()
        assert world.evictions.revoked == ("a",)
        world.store.write(lambda tx: tx.remove(Table.REMOVED_NODE, "m1"))
        await trio.testing.wait_all_tasks_blocked()
        assert world.evictions.revoked == ()
    assert world.told == 2


async def test_a_demoted_manager_starts_over_once_and_keeps_what_it_opens_then() -> None:
    world = World()
    before = world.add("m1", Role.MANAGER, "a")
    async with running(world):
        world.change("m1", _demote)
        await trio.testing.wait_all_tasks_blocked()
        assert world.ended == [before]
        assert world.evictions.revoked == ("a",)
        world.connections.remove(before)
        after = world.connect("m1", Role.MANAGER, "a")
        world.change("m1", lambda node: replace(node, status=NodeStatus(message="ready")))
        await trio.testing.wait_all_tasks_blocked()
        assert not after.ended, "as a worker it may stay"
        world.change("m1", _renewed(Role.WORKER, "b", is_revoked=False))
        await trio.testing.wait_all_tasks_blocked()
        assert not after.ended, "its successor was not seen yet"
        assert world.evictions.revoked == ("a",)


async def test_a_revoked_certificates_connections_end_and_its_successors_stay() -> None:
    world = World()
    old = world.add("w1", Role.WORKER, "a")
    new = world.connect("w1", Role.WORKER, "b")
    async with running(world):
        world.change("w1", _renewed(Role.WORKER, "b", is_revoked=True))
        await trio.testing.wait_all_tasks_blocked()
    assert world.ended == [old]
    assert not new.ended
    assert world.evictions.revoked == (), "nobody takes a worker's certificate for a manager's"


async def test_who_came_before_the_log_was_open_is_judged_at_the_start() -> None:
    world = World()
    demoted, removed, stays = world.add("m1", Role.MANAGER, "a"), world.add("w1", Role.WORKER, "b"), None
    stays = world.add("w2", Role.WORKER, "c")
    world.change("m1", _demote)
    world.remove("w1")
    async with running(world):
        pass
    assert world.ended == [demoted, removed]
    assert not stays.ended
    assert world.told == 1


async def test_a_gap_in_the_events_loses_nobody() -> None:
    world = World()
    gone, demoted = world.add("w1", Role.WORKER, "a"), world.add("m1", Role.MANAGER, "b")
    world.add("busy", Role.WORKER, "c")
    async with running(world):
        world.remove("w1")
        world.change("m1", _demote)
        for number in range(EVENTS_MAX + 1):
            world.change("busy", lambda node, n=number: replace(node, status=NodeStatus(message=f"{n}")))  # type: ignore[misc]
        await trio.testing.wait_all_tasks_blocked()
        assert world.ended == [gone, demoted]
        gone.ended = ""
        world.remove("m1")
        await trio.testing.wait_all_tasks_blocked()
        assert "removed" in demoted.ended, "it follows on after the gap"


async def test_a_connection_that_greeted_while_its_node_was_removed_ends() -> None:
    world = World()
    peer = world.add("w1", Role.WORKER, "a")
    world.evictions.judge(peer)
    assert not peer.ended
    world.remove("w1")
    world.evictions.judge(peer)
    assert peer.ended
    world.evictions.judge(world.connections[0])
    assert not world.connections[0].ended
