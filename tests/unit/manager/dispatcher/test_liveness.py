"""A node's state follows its heartbeats, its connection, its goodbye, and the leader's change."""

import pytest
import trio
from trio.testing import MockClock

from swarmd.errors import NotFound, Unavailable
from swarmd.manager.dispatcher.liveness import Deadlines
from swarmd.model import ClusterSpec, DispatcherConfig, NodeState
from swarmd.state.command import Table
from tests.unit.manager.dispatcher.world import (
    GRACE_S_MAX,
    GRACE_S_MIN,
    N1,
    N2,
    REGISTER,
    World,
    node,
    settle,
)


async def test_a_beating_node_stays_ready(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", REGISTER) as stream:
        first = await stream.__anext__()
        index = world.store.state.index
        periods = set()
        for _ in range(50):
            period_s = await world.beat(N1, first)
            periods.add(period_s)
            await trio.sleep(period_s)
        assert world.state(N1) is NodeState.READY
        assert world.store.state.index == index
        assert len(periods) == 50
        assert all(4.5 <= period_s <= 5.5 for period_s in periods)


async def test_a_silent_node_is_down_after_three_periods_and_its_session_over(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", REGISTER) as stream:
        first = await stream.__anext__()
        await world.beat(N1, first)
        await trio.sleep(GRACE_S_MIN - 0.1)
        assert world.state(N1) is NodeState.READY
        await trio.sleep(GRACE_S_MAX - GRACE_S_MIN + 0.2)
        assert (world.state(N1), world.status(N1).message) == (NodeState.DOWN, "heartbeat failure")
        assert not world.status(N1).confirmed
        with pytest.raises(Unavailable):
            await stream.__anext__()
        with pytest.raises(NotFound):
            await world.beat(N1, first)


async def test_a_down_node_that_registers_is_ready(autojump_clock: MockClock) -> None:
    world = World(node(N1, NodeState.DOWN))
    async with world.reign() as dispatcher:
        await trio.sleep(60)
        assert world.state(N1) is NodeState.DOWN
        async with dispatcher.session(N1, "h:1", REGISTER):
            assert world.status(N1).confirmed
            assert (world.state(N1), world.status(N1).message) == (NodeState.READY, "")


async def test_a_lost_connection_is_seen_at_once_and_down_after_the_grace(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher:
        async with dispatcher.session(N1, "h:1", REGISTER):
            await trio.sleep(10)
        await settle()
        assert (world.state(N1), world.status(N1).message) == (NodeState.DISCONNECTED, "connection lost")
        assert not world.status(N1).confirmed
        await trio.sleep(GRACE_S_MIN - 0.1)
        assert world.state(N1) is NodeState.DISCONNECTED
        await trio.sleep(GRACE_S_MAX - GRACE_S_MIN + 0.2)
        assert world.state(N1) is NodeState.DOWN


async def test_a_goodbye_is_a_stop_that_turns_down_after_the_grace(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher:
        async with dispatcher.session(N1, "h:1", REGISTER) as stream:
            first = await stream.__anext__()
            await world.goodbye(N1, first)
            assert (world.state(N1), world.status(N1).message) == (NodeState.DISCONNECTED, "stopped")
            with pytest.raises(StopAsyncIteration):
                await stream.__anext__()
        await settle()
        assert world.status(N1).message == "stopped"
        with pytest.raises(NotFound):
            await world.beat(N1, first)
        await trio.sleep(GRACE_S_MAX + 0.1)
        assert (world.state(N1), world.status(N1).message) == (NodeState.DOWN, "stopped")


async def test_a_leaving_node_is_down_at_once(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher:
        async with dispatcher.session(N1, "h:1", REGISTER) as stream:
            await world.goodbye(N1, await stream.__anext__(), leaving=True)
            assert (world.state(N1), world.status(N1).message) == (NodeState.DOWN, "left")
        await trio.sleep(60)
        assert world.status(N1).message == "left"


async def test_a_goodbye_ends_the_assignment_stream_too(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", REGISTER) as stream:
        first = await stream.__anext__()
        async with world.assignments(N1, first) as assignments:
            await assignments.__anext__()
            await world.goodbye(N1, first)
            with pytest.raises(StopAsyncIteration):
                await assignments.__anext__()
        with pytest.raises(NotFound):
            await world.goodbye(N1, first)


# -- a new leader --------------------------------------------------------------------------------------------------


async def test_a_new_reign_keeps_states_and_unconfirms_them(autojump_clock: MockClock) -> None:
    ids = [f"{number:025d}" for number in range(4)]
    states = [NodeState.READY, NodeState.DISCONNECTED, NodeState.DOWN, NodeState.UNKNOWN]
    world = World(*[node(id, state, confirmed=True) for id, state in zip(ids, states, strict=True)])
    async with world.reign():
        assert [world.state(id) for id in ids] == states
        assert [world.status(id).confirmed for id in ids] == [False, False, True, False]


async def test_a_new_reign_gives_every_node_a_fresh_grace(autojump_clock: MockClock) -> None:
    world = World(node(N1, NodeState.READY, confirmed=True), node(N2, NodeState.READY, confirmed=True))
    for _ in range(3):
        async with world.reign():
            await trio.sleep(GRACE_S_MIN - 0.5)
            assert world.state(N1) is NodeState.READY
    async with world.reign() as dispatcher, dispatcher.session(N2, "h:1", REGISTER) as stream:
        first = await stream.__anext__()
        assert world.status(N2).confirmed
        for _ in range(4):
            await trio.sleep(await world.beat(N2, first))
        assert world.state(N2) is NodeState.READY
        assert world.state(N1) is NodeState.DOWN
        assert world.status(N1).message == "not heard from since the leader changed"


async def test_a_session_that_comes_before_the_unconfirming_write_stays_confirmed(
    autojump_clock: MockClock,
) -> None:
    world = World(node(N1, NodeState.READY, confirmed=True), latency_s=1.0)

    async def early() -> None:
        await trio.sleep(0.5)
        async with world.dispatcher.session(N1, "h:1", REGISTER):
            await trio.sleep(3)
            assert world.status(N1).confirmed

    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as agents:
            nursery.start_soon(world.dispatcher.run)
            agents.start_soon(early)
        nursery.cancel_scope.cancel()


async def test_the_period_of_the_cluster_is_the_period_of_the_nodes(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    world.update_cluster(spec=ClusterSpec(dispatcher=DispatcherConfig(heartbeat_period_s=1.0)))
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", REGISTER):
        await trio.sleep(2.6)
        assert world.state(N1) is NodeState.READY
        await trio.sleep(0.8)
        assert world.state(N1) is NodeState.DOWN


async def test_a_period_of_zero_does_not_mark_everybody_down(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    world.update_cluster(spec=ClusterSpec(dispatcher=DispatcherConfig(heartbeat_period_s=0.0)))
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", REGISTER) as stream:
        assert await world.beat(N1, await stream.__anext__()) > 0
        assert world.state(N1) is NodeState.READY


async def test_a_node_removed_while_silent_is_forgotten(autojump_clock: MockClock) -> None:
    world = World(node(N1, NodeState.READY))
    async with world.reign():
        world.store.write(lambda tx: tx.remove(Table.NODE, N1))
        await trio.sleep(GRACE_S_MAX + 1)
        assert world.store.state.node(N1) is None


async def test_a_leader_that_stood_still_blames_nobody(mock_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", REGISTER) as stream:
        first = await stream.__anext__()
        mock_clock.jump(300)  # the machine slept
        await settle()
        assert world.state(N1) is NodeState.READY
        await world.beat(N1, first)
        mock_clock.autojump_threshold = 0
        await trio.sleep(GRACE_S_MIN - 0.1)
        assert world.state(N1) is NodeState.READY
        await trio.sleep(GRACE_S_MAX - GRACE_S_MIN + 0.2)
        assert world.state(N1) is NodeState.DOWN


# -- deadlines -----------------------------------------------------------------------------------------------------


def test_deadlines_expire_in_order_and_once() -> None:
    deadlines = Deadlines()
    for at, id in ((3.0, "c"), (1.0, "a"), (2.0, "b")):
        deadlines.set(id, at)
    assert deadlines.next_at == 1.0
    assert deadlines.expired(0.5) == []
    assert deadlines.expired(2.0) == ["a", "b"]
    assert deadlines.expired(2.0) == []
    assert deadlines.next_at == 3.0


def test_a_deadline_moves_both_ways() -> None:
    deadlines = Deadlines()
    deadlines.set("a", 10.0)
    deadlines.set("a", 20.0)
    assert deadlines.expired(15.0) == []
    deadlines.set("a", 16.0)
    assert deadlines.next_at == 16.0
    assert deadlines.expired(16.0) == ["a"]
    assert deadlines.expired(100.0) == []
    assert deadlines.next_at == float("inf")


def test_a_dropped_deadline_never_expires() -> None:
    deadlines = Deadlines()
    deadlines.set("a", 1.0)
    deadlines.drop("a")
    assert deadlines.expired(5.0) == []
    deadlines.set("a", 6.0)
    assert deadlines.expired(6.0) == ["a"]


def test_postponing_moves_everything() -> None:
    deadlines = Deadlines()
    deadlines.set("a", 1.0)
    deadlines.set("b", 2.0)
    deadlines.postpone(10.0)
    assert deadlines.expired(10.9) == []
    assert deadlines.expired(12.0) == ["a", "b"]


def test_many_beats_keep_one_heap_entry_a_node() -> None:
    deadlines = Deadlines()
    for at in range(1000):
        deadlines.set("a", 15.0 + at)
    assert len(deadlines._heap) == 1
