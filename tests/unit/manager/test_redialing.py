"""Connections between managers after a certificate changed: dialed anew, one by one, the new before the old goes."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import trio
import trio.lowlevel
from msgspec.structs import replace
from trio.testing import MockClock

from swarmd.errors import Unavailable
from swarmd.manager.peers import LINGER_S, REDIAL_S_MAX, Peers
from swarmd.manager.proxy import CALL_S_MAX, LeaderLink
from swarmd.manager.redialing import Redialing
from swarmd.model import Cluster, Node, NodeStatus, Role
from swarmd.raft import Configuration, Member
from swarmd.state.features import SECURITY
from swarmd.wire.identity import Identity
from tests.unit.manager.local_store import LocalStore
from tests.unit.manager.test_peers import FakeConnection

OTHERS = (2, 3, 4)


def configuration(*numbers: int) -> Configuration:
    return Configuration(
        members=tuple(
            Member(member_id=n, node_id=f"node{n}", addresses=(f"{n}:1",), is_voter=True) for n in (1, *numbers)
        )
    )


class Wire:
    """Every connection that was dialed, and what happened to them in order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.open: dict[str, int] = {}
        self.refused: set[str] = set()
        self.open_min: dict[str, int] = {}

    @asynccontextmanager
    async def dial(self, address: str) -> AsyncIterator[FakeConnection]:
        await trio.sleep(0.01)
        if address in self.refused:
            raise Unavailable("refused")
        self.events.append(f"+{address}")
        self.open[address] = self.open.get(address, 0) + 1
        try:
            yield FakeConnection(f"node{address[0]}")
        finally:
            self.open[address] -= 1
            self.open_min[address] = min(self.open_min.get(address, 9), self.open[address])
            self.events.append(f"-{address}")


async def linked(nursery: trio.Nursery, wire: Wire, *numbers: int) -> Peers:
    peers = Peers(1, cast("Any", wire.dial), random.Random(1), on_unreachable=lambda _: None)
    peers.follow(configuration(*(numbers or OTHERS)))
    await nursery.start(peers.run)
    await trio.sleep(0.1)
    return peers


async def test_each_is_dialed_anew_before_the_old_goes_and_one_at_a_time(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    wire = Wire()
    peers = await linked(nursery, wire)
    wire.events.clear()
    await peers.redial()
    await trio.lowlevel.checkpoint()
    assert wire.events[:5] == ["+2:1", "-2:1", "+3:1", "-3:1", "+4:1"]
    await trio.sleep(60)
    assert wire.events == ["+2:1", "-2:1", "+3:1", "-3:1", "+4:1", "-4:1"]
    assert wire.open == dict.fromkeys(wire.open, 1)
    assert set(wire.open_min.values()) == {1}, "there was a connection all the time"


async def test_one_that_cannot_be_dialed_keeps_what_it_has(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    wire = Wire()
    peers = await linked(nursery, wire)
    wire.refused = {"2:1"}
    began = trio.current_time()
    await peers.redial()
    assert trio.current_time() - began < REDIAL_S_MAX + 3 * LINGER_S + 1
    await trio.sleep(30)
    assert wire.open == {"2:1": 1, "3:1": 1, "4:1": 1}
    wire.refused = set()
    await peers.redial("node2")
    await trio.sleep(1)
    assert wire.open["2:1"] == 1
    assert wire.events[-2:] == ["+2:1", "-2:1"]


async def test_a_member_removed_while_it_is_dialed_keeps_no_connection(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    wire = Wire()
    peers = await linked(nursery, wire)
    async with trio.open_nursery() as redialing:
        redialing.start_soon(peers.redial)
        await trio.sleep(0.005)
        peers.follow(configuration(3, 4))
    await trio.sleep(10)
    assert wire.open == {"2:1": 0, "3:1": 1, "4:1": 1}


async def test_a_call_under_way_to_the_leader_finishes_and_the_next_takes_a_new_connection(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    wire = Wire()
    link = LeaderLink(cast("Any", wire.dial))
    await nursery.start(link.run)
    leader = configuration(2).members[1]
    first = await link.to(leader)
    link.redial("node3")
    assert await link.to(leader) is first
    link.redial("node2")
    second = await link.to(leader)
    assert second is not first
    assert not first.closed.is_set()
    await trio.sleep(CALL_S_MAX + 1)
    assert first.closed.is_set()
    assert await link.to(leader) is second


class Noted:
    """Peers and leader link in one."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def redial(self, node_id: str = "") -> None:
        self.asked.append(node_id)
        await trio.sleep(1)


class NotedLink:
    def __init__(self) -> None:
        self.asked: list[str] = []

    def redial(self, node_id: str = "") -> None:
        self.asked.append(node_id)


class Changeable:
    def __init__(self) -> None:
        self.changed = trio.Event()
        self.identity = Identity(node_id="m1", role=Role.MANAGER, swarm_id="swarm", fingerprint="0")

    def change(self) -> None:
        self.identity = replace(self.identity, fingerprint=self.identity.fingerprint + "+")
        changed, self.changed = self.changed, trio.Event()
        changed.set()


def see(store: LocalStore, node_id: str, certificate: str) -> None:
    def fn(tx: Any) -> None:
        node = tx.node(node_id)
        tx.update(replace(node, status=replace(node.status, certificate=certificate)))

    store.write(fn)


async def test_a_change_of_ours_concerns_all_and_one_of_anothers_that_one(autojump_clock: MockClock) -> None:
    store = LocalStore()
    store.create(Cluster(id="swarm", feature_level=(SECURITY,)))
    store.create(
        Node(id="m2", role=Role.MANAGER, status=NodeStatus(certificate="a")),
        Node(id="m3", role=Role.MANAGER),
        Node(id="w1", role=Role.WORKER, status=NodeStatus(certificate="a")),
    )
    peers, link, credentials = Noted(), NotedLink(), Changeable()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Redialing(credentials, peers, link, lambda: store.state).run)
        await trio.sleep(1)
        see(store, "m3", "first")
        see(store, "w1", "b")
        await trio.sleep(5)
        assert peers.asked == []
        see(store, "m2", "b")
        see(store, "m3", "second")
        await trio.sleep(5)
        assert peers.asked == link.asked == ["m2", "m3"]
        credentials.change()
        await trio.sleep(0.5)
        credentials.change()
        await trio.sleep(5)
        assert peers.asked == link.asked == ["m2", "m3", "", ""]
        nursery.cancel_scope.cancel()


async def test_who_waits_for_the_links_waits_until_all_of_them_have_moved(autojump_clock: MockClock) -> None:
    """A manager's session moves after its links: once the leader sees the new certificate, the old one is revoked."""
    store = LocalStore()
    peers, credentials = Noted(), Changeable()
    async with trio.open_nursery() as nursery:
        redialing = Redialing(credentials, peers, NotedLink(), lambda: store.state)
        nursery.start_soon(redialing.run)
        await redialing.until_moved()
        assert peers.asked == [], "nothing has changed"
        await trio.sleep(1)
        credentials.change()
        await redialing.until_moved()
        assert peers.asked == [""]
        credentials.change()
        credentials.change()
        await redialing.until_moved()
        assert len(peers.asked) >= 2
        nursery.cancel_scope.cancel()
