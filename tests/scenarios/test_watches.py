"""Watches while managers die, come back, fall behind and are given snapshots: what is told is what happened, once, in
order, or that some of it is gone. In virtual time, over real drivers, logs and states."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from swarmd.errors import Gone, SwarmError
from swarmd.manager.bell import Bell
from swarmd.model import Node, NodeDescription
from swarmd.state.command import Table
from swarmd.state.selection import Selection
from swarmd.state.transaction import Transaction as Change
from swarmd.state.watcher import Watcher
from swarmd.wire.watch import Action, WatchEntry
from tests.unit.manager.raft_cluster import Cluster, FakeManager, open_cluster

SELECTION = Selection([WatchEntry(kind="node")])


def watch(manager: FakeManager, after: int, wake: Callable[[], None] = lambda: None) -> Watcher:
    return manager.driver.state.watch(SELECTION, after=after, wake=wake)


def told(watcher: Watcher) -> list[tuple[int, str]]:
    """All there is now."""
    found: list[tuple[int, str]] = []
    while True:
        found += [(t.version, s.event.id) for t in watcher.take() for s in t.events]
        if watcher.is_current:
            return found


async def create(manager: FakeManager, id: str) -> int:
    _, index = await manager.store.update(lambda tx: tx.create(Node(id=id)), actor="test")
    return index


async def test_every_manager_tells_the_same_from_any_version_after_a_new_leader_and_a_restart(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster() as cluster:
        first = await cluster.leader()
        written = [(await create(first, f"a{number}"), f"a{number}") for number in range(5)]
        await cluster.stop(first.member_id)
        second = await cluster.leader()
        written += [(await create(second, f"b{number}"), f"b{number}") for number in range(5)]
        await cluster.start(first.member_id)
        await cluster.until_applied(written[-1][0], *cluster.managers)
        for manager in cluster.managers.values():
            for after in (0, written[3][0], written[7][0]):
                assert told(watch(manager, after)) == [event for event in written if event[0] > after]


async def test_a_follower_that_is_given_a_snapshot_says_so_and_another_manager_goes_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster() as cluster:
        cluster.snapshot_interval, cluster.keep_entries = 10, 0
        leader = await cluster.leader()
        behind = next(m for m in cluster.managers.values() if m is not leader)
        seen = await create(leader, "seen")
        await cluster.until_applied(seen, behind.member_id)
        bell = Bell()
        watcher = watch(behind, seen, bell.ring)
        assert told(watcher) == []
        cluster.cut_off(behind.member_id)
        written = [(await create(leader, f"n{number}"), f"n{number}") for number in range(40)]
        await cluster.until(lambda: leader.driver.core.first_index > seen + 1)
        cluster.heal()
        await cluster.until_applied(written[-1][0], behind.member_id)
        with trio.fail_after(1):
            await bell.wait()
        with pytest.raises(Gone, match=f"after version {seen} is not known"):
            watcher.take()
        assert told(watch(leader, seen)) == written


class Client:
    """Keeps a copy of all nodes by watching whichever manager it likes, and reads them anew only when told `gone`."""

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        self.cluster = cluster
        self.rng = rng
        self.position = 0
        self.copy: dict[str, Node] = {}
        self.versions: list[int] = []
        self.relisted = 0
        self.managers_used: set[int] = set()

    async def run(self) -> None:
        """Move from manager to manager."""
        while True:
            running = [m for m in self.cluster.managers.values() if m.is_running]
            if running:
                manager = self.rng.choice(running)
                with suppress(SwarmError):  # it has no quorum: try another one
                    await self.follow(manager, self.rng.uniform(0.05, 1.5))
            await trio.sleep(self.rng.choice((0.01, 0.01, 2.0)))

    async def follow(self, manager: FakeManager, seconds: float) -> None:
        """Watch through this manager for so long."""
        if self.position > manager.driver.applied:
            with trio.move_on_after(1):
                await manager.driver.read_index()
            if self.position > manager.driver.applied:
                return
        bell = Bell()
        try:
            watcher = watch(manager, self.position, bell.ring)
            self.managers_used.add(manager.member_id)
            with trio.move_on_after(seconds):
                while manager.is_running:
                    self.take(watcher)
                    if watcher.is_current:
                        await bell.wait()
        except Gone:
            state = manager.driver.state
            assert state.index > self.position
            self.relisted += 1
            self.copy = {node.id: node for node in state.nodes()}
            self.position = state.index

    def take(self, watcher: Watcher) -> None:
        for transaction in watcher.take():
            assert transaction.version > self.position
            self.versions.append(transaction.version)
            for selected in transaction.events:
                event = selected.event
                if selected.action is Action.REMOVE:
                    del self.copy[event.id]
                else:
                    assert (self.copy.get(event.id) is None) == (selected.action is Action.CREATE)
                    assert event.new is not None
                    assert self.copy.get(event.id) == event.old
                    self.copy[event.id] = event.new  # type: ignore[assignment]
            self.position = transaction.version
        self.position = watcher.position


async def change_things(cluster: Cluster, rng: random.Random) -> None:
    """Nodes are made, changed and removed, some in one transaction, by whoever leads."""
    names = [f"n{number}" for number in range(12)]
    while True:

        def fn(tx: Change) -> None:
            for name in rng.sample(names, rng.randint(1, 3)):
                held = tx.node(name)
                if held is None:
                    tx.create(Node(id=name))
                elif rng.random() < 0.3:
                    tx.remove(Table.NODE, name)
                else:
                    tx.update(replace(held, description=NodeDescription(hostname=f"h{rng.randint(0, 99)}")))

        leaders = [m for m in cluster.managers.values() if m.is_running and m.driver.is_leading]
        if leaders:
            with trio.move_on_after(2), suppress(SwarmError):  # the lead may be lost
                await rng.choice(leaders).store.update(fn, actor="test")
        await trio.sleep(rng.uniform(0.005, 0.05))


async def break_things(cluster: Cluster, rng: random.Random) -> None:
    """One manager at a time is killed, or cut off, for a while."""
    while True:
        await trio.sleep(rng.uniform(0.5, 2))
        victim = rng.choice(list(cluster.managers))
        if rng.random() < 0.5:
            await cluster.stop(victim)
            await trio.sleep(rng.uniform(0.2, 4))
            await cluster.start(victim)
        else:
            cluster.cut_off(victim)
            await trio.sleep(rng.uniform(0.2, 4))
            cluster.heal()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("compacts", [False, True])
async def test_a_copy_kept_by_watching_managers_that_come_and_go_equals_the_state(
    seed: int, compacts: bool, autojump_clock: trio.testing.MockClock
) -> None:
    rng = random.Random(seed)
    async with open_cluster() as cluster:
        if compacts:
            cluster.snapshot_interval, cluster.keep_entries = 10, 0
        client = Client(cluster, rng)
        await cluster.leader()
        with trio.move_on_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(change_things, cluster, rng)
                nursery.start_soon(break_things, cluster, rng)
                nursery.start_soon(client.run)
        cluster.heal()
        await cluster.start(*[m for m in cluster.managers if not cluster.managers[m].is_running])
        leader = await cluster.leader()
        last = await create(leader, "last")
        await cluster.until_applied(last, *cluster.managers)
        for manager in cluster.managers.values():
            await client.follow(manager, 0.1)
        while client.position < last:
            await client.follow(leader, 0.1)
        assert client.copy == {node.id: node for node in leader.driver.state.nodes()}
        assert client.versions == sorted(set(client.versions))
        assert len(client.versions) > 50
        assert len(client.managers_used) >= 2
        assert compacts or client.relisted == 0
