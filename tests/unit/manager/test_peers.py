"""Who is linked to whom: messages leave on the connection that their target dialed."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from swarmd.errors import Unavailable
from swarmd.manager.peers import DIAL_S_MAX, Peers
from swarmd.model import Role
from swarmd.raft import Configuration, Member, Message, MessageType
from swarmd.wire.frames import Hello
from swarmd.wire.identity import Caller, Identity

OWN, OTHER = 1, 2


class FakeConnection:
    def __init__(self, node_id: str, class_: str = "raft", *, room: bool = True) -> None:
        self.peer = Caller(identity=Identity(node_id=node_id, role=Role.MANAGER, swarm_id="s"), address="x")
        self.peer_hello = Hello(class_=class_)
        self.closed = trio.Event()
        self.posted: list[bytes] = []
        self._room = room

    def post(self, method: object, message: bytes) -> bool:
        if self._room:
            self.posted.append(message)
        return self._room

    async def aclose(self) -> None:
        self.closed.set()


class Network:
    """Addresses that answer, and every dial made."""

    def __init__(self) -> None:
        self.dialed: list[str] = []
        self.answers: dict[str, FakeConnection] = {}
        self.silent: set[str] = set()

    @asynccontextmanager
    async def dial(self, address: str) -> AsyncIterator[FakeConnection]:
        self.dialed.append(address)
        if address in self.silent:
            await trio.sleep_forever()
        if address not in self.answers:
            raise Unavailable(f"{address} does not answer")
        yield self.answers[address]


def configuration(*addresses: str) -> Configuration:
    return Configuration(
        members=(
            Member(member_id=OWN, node_id="own", addresses=("own:1",), is_voter=True),
            Member(member_id=OTHER, node_id="other", addresses=addresses, is_voter=True),
        )
    )


def heartbeat() -> Message:
    return Message(type=MessageType.HEARTBEAT, source=OWN, target=OTHER, term=1)


class Bench:
    def __init__(self) -> None:
        self.network = Network()
        self.unreachable: list[int] = []
        self.peers = Peers(
            OWN,
            self.network.dial,  # type: ignore[arg-type]
            random.Random(1),
            on_unreachable=self.unreachable.append,
        )


async def test_a_message_leaves_on_the_connection_its_target_dialed(nursery: trio.Nursery) -> None:
    bench = Bench()
    bench.peers.follow(configuration())
    await nursery.start(bench.peers.run)
    assert not bench.peers.post(heartbeat())
    incoming = FakeConnection("other")
    bench.peers.accepted(incoming)  # type: ignore[arg-type]
    await trio.testing.wait_all_tasks_blocked()
    assert bench.peers.is_linked(OTHER)
    assert bench.peers.post(heartbeat())
    assert len(incoming.posted) == 1
    assert bench.peers.dropped == 1


async def test_a_lost_connection_is_reported_and_a_newer_one_is_not_mistaken_for_it(nursery: trio.Nursery) -> None:
    bench = Bench()
    bench.peers.follow(configuration())
    await nursery.start(bench.peers.run)
    old, new = FakeConnection("other"), FakeConnection("other")
    for connection in (old, new):
        bench.peers.accepted(connection)  # type: ignore[arg-type]
        await trio.testing.wait_all_tasks_blocked()
    old.closed.set()
    await trio.testing.wait_all_tasks_blocked()
    assert bench.unreachable == []
    assert bench.peers.is_linked(OTHER)
    new.closed.set()
    await trio.testing.wait_all_tasks_blocked()
    assert bench.unreachable == [OTHER]
    assert not bench.peers.is_linked(OTHER)


async def test_connections_of_another_class_or_of_a_stranger_are_not_used(nursery: trio.Nursery) -> None:
    bench = Bench()
    bench.peers.follow(configuration())
    await nursery.start(bench.peers.run)
    control, stranger = FakeConnection("other", "control"), FakeConnection("stranger")
    bench.peers.accepted(control)  # type: ignore[arg-type]
    bench.peers.accepted(stranger)  # type: ignore[arg-type]
    await trio.testing.wait_all_tasks_blocked()
    assert not bench.peers.is_linked(OTHER)
    assert stranger.closed.is_set()
    assert not control.closed.is_set()


async def test_every_member_is_dialed_until_it_answers(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench()
    bench.peers.follow(configuration("a:1", "b:1"))
    await nursery.start(bench.peers.run)
    await trio.sleep(5)
    assert {"a:1", "b:1"} == set(bench.network.dialed)
    assert len(bench.network.dialed) >= 6
    bench.network.answers["b:1"] = FakeConnection("other")
    await trio.sleep(5)
    count = len(bench.network.dialed)
    await trio.sleep(60)
    assert len(bench.network.dialed) == count


async def test_an_address_that_says_nothing_is_left_for_the_next(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench()
    bench.network.silent = {"a:1"}
    bench.network.answers["b:1"] = FakeConnection("other")
    bench.peers.follow(configuration("a:1", "b:1"))
    await nursery.start(bench.peers.run)
    await trio.sleep(DIAL_S_MAX + 0.1)
    assert bench.network.dialed == ["a:1", "b:1"]
    await trio.sleep(60)
    assert bench.network.dialed == ["a:1", "b:1"]  # a dial's limit is no limit for what it opened


async def test_new_addresses_mean_a_new_connection_and_a_removed_member_none(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench()
    bench.network.answers = {"a:1": FakeConnection("other"), "b:1": FakeConnection("other")}
    bench.peers.follow(configuration("a:1"))
    await nursery.start(bench.peers.run)
    await trio.sleep(1)
    bench.peers.follow(configuration("b:1"))
    await trio.sleep(1)
    assert bench.network.dialed == ["a:1", "b:1"]
    bench.peers.follow(Configuration(members=(configuration("b:1").members[0],)))
    bench.network.answers["b:1"].closed.set()
    await trio.sleep(60)
    assert bench.network.dialed == ["a:1", "b:1"]


async def test_an_address_where_another_node_answers_is_not_used(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench()
    bench.network.answers = {"a:1": FakeConnection("stranger"), "b:1": FakeConnection("other")}
    bench.peers.follow(configuration("a:1", "b:1"))
    await nursery.start(bench.peers.run)
    await trio.sleep(1)
    assert bench.network.dialed == ["a:1", "b:1"]


async def test_an_empty_configuration_keeps_the_links_of_a_joiner(nursery: trio.Nursery) -> None:
    bench = Bench()
    bench.peers.follow(configuration("a:1"))
    await nursery.start(bench.peers.run)
    bench.peers.follow(Configuration())
    incoming = FakeConnection("other")
    bench.peers.accepted(incoming)  # type: ignore[arg-type]
    await trio.testing.wait_all_tasks_blocked()
    assert bench.peers.is_linked(OTHER)


async def test_a_member_removed_before_its_link_began_is_never_dialed(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    bench = Bench()
    await nursery.start(bench.peers.run)
    bench.peers.follow(configuration("a:1"))
    bench.peers.follow(Configuration(members=(configuration("a:1").members[0],)))
    await trio.sleep(10)
    assert bench.network.dialed == []


async def test_of_two_connections_of_one_member_either_may_be_the_one_that_stays(nursery: trio.Nursery) -> None:
    """It dialed anew while an older attempt was on its way too: the two came in another order than they were made, and
    the newer one went. Messages to the member were dropped from then on, and its heartbeats kept all from voting."""
    bench = Bench()
    bench.peers.follow(configuration("a:1"))
    await nursery.start(bench.peers.run)
    kept, gone = FakeConnection("other"), FakeConnection("other")
    for connection in (kept, gone):
        bench.peers.accepted(connection)  # type: ignore[arg-type]
        await trio.testing.wait_all_tasks_blocked()
    gone.closed.set()
    await trio.testing.wait_all_tasks_blocked()
    assert bench.peers.is_linked(OTHER)
    assert bench.peers.post(heartbeat())
    assert len(kept.posted) == 1
    assert bench.unreachable == [OTHER], "what was under way on it may be lost"
    kept.closed.set()
    await trio.testing.wait_all_tasks_blocked()
    assert not bench.peers.is_linked(OTHER)


async def test_peers_that_are_ending_dial_nobody_anew(autojump_clock: trio.testing.MockClock) -> None:
    """A demoted manager's certificate changes in the moment in which its manager part ends: that ended the daemon."""
    bench = Bench()
    bench.peers.follow(configuration("a:1"))
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.peers.run)
        nursery.cancel_scope.cancel()
    dialed = list(bench.network.dialed)
    await bench.peers.redial()
    bench.peers.accepted(FakeConnection("other"))  # type: ignore[arg-type]
    bench.peers.follow(configuration("b:1"))
    await trio.sleep(5)
    assert bench.network.dialed == dialed
