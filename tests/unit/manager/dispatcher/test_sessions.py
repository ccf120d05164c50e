"""Registrations: who is let in, what is written, what a session is told and how it ends."""

import msgspec
import pytest
import trio
from trio.testing import MockClock

from swarmd.errors import Conflict, Invalid, NotFound, PermissionDenied, ResourceExhausted, SwarmError, Unavailable
from swarmd.manager.dispatcher import node_writer
from swarmd.manager.dispatcher.node_writer import DESCRIPTION_BYTES_MAX
from swarmd.manager.dispatcher.streams import SessionStream
from swarmd.model import (
    DispatcherConfig,
    NodeDescription,
    NodeState,
    RemovedNode,
    Role,
    RootCA,
)
from swarmd.state.command import Table
from swarmd.wire.dispatch import HeartbeatRequest, ManagerPeer, SessionRequest
from tests.unit.manager.dispatcher.world import DESCRIPTION, N1, N2, REGISTER, World, as_role, node, settle


async def next_of(stream: SessionStream) -> object:
    """The next message, or the error, or None if nothing comes within a second."""
    with trio.move_on_after(1):
        try:
            return await stream.__anext__()
        except SwarmError as error:
            return error
    return None


async def test_a_registration_makes_the_node_ready_before_it_is_confirmed(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher, dispatcher.session(N1, "192.0.2.1:4711", REGISTER) as stream:
        stored = world.node(N1)
        assert (stored.status.state, stored.status.confirmed) == (NodeState.READY, True)
        assert stored.status.addr == "192.0.2.1"
        assert stored.description == DESCRIPTION
        first = await stream.__anext__()
        assert first.node == stored
        assert first.managers == world.managers
        assert first.root_ca == b"root"
        assert 4.5 <= first.heartbeat_period_s <= 5.5
        assert world.store.commands[-1].actor == "dispatcher"
        assert world.store.commands[-1].term == world.store.term


async def test_registering_again_unchanged_writes_nothing(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", REGISTER):
        index = world.store.state.index
        async with dispatcher.session(N1, "h:2", REGISTER) as second:
            await second.__anext__()
            assert world.store.state.index == index


async def test_a_new_description_is_written(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher:
        request = SessionRequest(description=NodeDescription(hostname="renamed"))
        async with dispatcher.session(N1, "h:1", REGISTER), dispatcher.session(N1, "h:1", request):
            assert world.node(N1).description.hostname == "renamed"


async def test_an_unknown_and_a_removed_node_are_refused(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    world.store.create(RemovedNode(id=N2))
    async with world.reign() as dispatcher:
        with pytest.raises(NotFound):
            async with dispatcher.session("x" * 25, "h:1", REGISTER):
                pass
        with pytest.raises(PermissionDenied, match="removed"):
            async with dispatcher.session(N2, "h:1", REGISTER):
                pass


async def test_a_second_registration_replaces_the_first(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", REGISTER) as first_stream:
        first = await first_stream.__anext__()
        async with dispatcher.session(N1, "h:1", REGISTER) as second_stream:
            second = await second_stream.__anext__()
            assert second.session_id != first.session_id
            assert isinstance(await next_of(first_stream), Invalid)
            with pytest.raises(Invalid):
                await world.beat(N1, first)
            await world.beat(N1, second)


async def test_the_end_of_a_replaced_stream_leaves_the_node_ready(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher:
        old = dispatcher.session(N1, "h:1", REGISTER)
        await (await old.__aenter__()).__anext__()
        async with dispatcher.session(N1, "h:1", REGISTER):
            await old.__aexit__(None, None, None)
            await settle()
            assert world.state(N1) is NodeState.READY


async def test_a_session_is_resumed_by_its_id_and_the_older_stream_ends(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher:
        old = dispatcher.session(N1, "h:1", REGISTER)
        old_stream = await old.__aenter__()
        first = await old_stream.__anext__()
        resume = SessionRequest(description=DESCRIPTION, session_id=first.session_id)
        async with dispatcher.session(N1, "h:2", resume) as stream:
            assert (await stream.__anext__()).session_id == first.session_id
            assert isinstance(await next_of(old_stream), Conflict)
            await old.__aexit__(None, None, None)
            await settle()
            assert world.state(N1) is NodeState.READY


async def test_a_lost_session_is_resumed_within_the_grace(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher:
        async with dispatcher.session(N1, "h:1", REGISTER) as stream:
            first = await stream.__anext__()
        with pytest.raises(Invalid, match="closed"):
            await world.beat(N1, first)
        await trio.sleep(10)
        assert world.state(N1) is NodeState.DISCONNECTED
        resume = SessionRequest(description=DESCRIPTION, session_id=first.session_id)
        async with dispatcher.session(N1, "h:1", resume):
            assert world.state(N1) is NodeState.READY
            await world.beat(N1, first)


async def test_the_fourth_registration_in_8_seconds_is_refused_and_resumes_are_not_counted(
    autojump_clock: MockClock,
) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher:
        for _ in range(3):
            async with dispatcher.session(N1, "h:1", REGISTER) as stream:
                session_id = (await stream.__anext__()).session_id
        for _ in range(5):
            async with dispatcher.session(N1, "h:1", SessionRequest(description=DESCRIPTION, session_id=session_id)):
                pass
        with pytest.raises(Unavailable, match="registered more than 3 times"):
            async with dispatcher.session(N1, "h:1", REGISTER):
                pass
        await trio.sleep(8.1)
        async with dispatcher.session(N1, "h:1", REGISTER):
            pass


async def test_calls_with_another_nodes_session_are_refused(autojump_clock: MockClock) -> None:
    world = World(node(N1), node(N2))
    async with world.reign() as dispatcher:
        async with (
            dispatcher.session(N1, "h:1", REGISTER) as stream,
            dispatcher.session(N2, "h:2", REGISTER),
        ):
            first = await stream.__anext__()
            with pytest.raises(Invalid):
                await dispatcher.heartbeat(N2, HeartbeatRequest(session_id=first.session_id))
        with pytest.raises(NotFound):
            await dispatcher.heartbeat("x" * 25, HeartbeatRequest(session_id=first.session_id))


# -- messages ----------------------------------------------------------------------------------------------------


async def test_a_change_of_the_node_by_the_operator_is_told(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", REGISTER) as stream:
        first = await stream.__anext__()
        world.update(first.node, **as_role(first.node, Role.MANAGER))
        message = await stream.__anext__()
        assert message.node.spec.desired_role is Role.MANAGER
        assert message.session_id == first.session_id
        assert message.root_ca == b"root"


async def test_the_nodes_own_echo_is_not_told(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", REGISTER) as stream:
        first = await stream.__anext__()
        await world.beat(N1, first)
        status = msgspec.structs.replace(world.status(N1), message="still here")
        world.update(first.node, status=status, description=NodeDescription(hostname="other"))
        assert await next_of(stream) is None


async def test_a_new_manager_root_or_period_is_told(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", REGISTER) as stream:
        await stream.__anext__()
        world.managers = (*world.managers, ManagerPeer(node_id=N2, addresses=("b:1",)))
        dispatcher.managers_changed()
        assert (await stream.__anext__()).managers == world.managers
        world.update_cluster(root_ca=RootCA(certificate=b"new root"))
        assert (await stream.__anext__()).root_ca == b"new root"
        spec = world.store.state.cluster().spec  # type: ignore[union-attr]
        world.update_cluster(spec=msgspec.structs.replace(spec, dispatcher=DispatcherConfig(heartbeat_period_s=60.0)))
        message = await stream.__anext__()
        assert 54 <= message.heartbeat_period_s <= 66
        dispatcher.managers_changed()
        assert await next_of(stream) is None


async def test_a_removed_node_is_told_and_can_do_nothing_more(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", REGISTER) as stream:
        first = await stream.__anext__()
        world.store.write(lambda tx: tx.remove(Table.NODE, N1))
        assert isinstance(await next_of(stream), PermissionDenied)
        with pytest.raises((PermissionDenied, NotFound)):
            await world.beat(N1, first)


# -- the reign ---------------------------------------------------------------------------------------------------


async def test_outside_a_reign_every_call_is_unavailable(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    with pytest.raises(Unavailable):
        async with world.dispatcher.session(N1, "h:1", REGISTER):
            pass
    async with world.reign():
        pass
    with pytest.raises(Unavailable):
        await world.dispatcher.heartbeat(N1, HeartbeatRequest(session_id="x"))


async def test_the_end_of_the_reign_ends_streams_outside_its_nursery(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    ends: list[object] = []

    async def agent() -> None:
        try:
            async with world.dispatcher.session(N1, "h:1", REGISTER) as stream:
                async for _ in stream:
                    pass
        except Unavailable as error:
            ends.append(error)

    async with trio.open_nursery() as nursery, world.reign():
        nursery.start_soon(agent)
        await settle()
        assert world.state(N1) is NodeState.READY
    assert len(ends) == 1
    assert world.state(N1) is NodeState.READY


async def test_a_registration_under_way_when_the_reign_ends_is_unavailable(autojump_clock: MockClock) -> None:
    world = World(node(N1), latency_s=1.0)
    refused: list[Unavailable] = []

    async def agent() -> None:
        try:
            async with world.dispatcher.session(N1, "h:1", REGISTER):
                raise AssertionError("it was never committed")
        except Unavailable as error:
            refused.append(error)

    async with trio.open_nursery() as nursery, world.reign():
        nursery.start_soon(agent)
        await trio.sleep(0.5)
    assert len(refused) == 1


async def test_registrations_that_arrive_together_share_entries(autojump_clock: MockClock) -> None:
    ids = [f"{number:025d}" for number in range(500)]
    world = World(*[node(id) for id in ids], latency_s=0.01)

    async def register(id: str) -> None:
        async with world.dispatcher.session(id, "h:1", REGISTER):
            await trio.sleep_forever()

    async with world.reign(), trio.open_nursery() as nursery:
        before = world.store.state.index
        for id in ids:
            nursery.start_soon(register, id)
        await trio.sleep(0.2)
        assert all(world.state(id) is NodeState.READY for id in ids)
        assert world.store.state.index - before <= 5
        nursery.cancel_scope.cancel()


async def test_a_write_that_fails_is_tried_again(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher:
        world.store.failures = [Unavailable("not now"), Conflict("busy"), Unavailable("not now")]
        async with dispatcher.session(N1, "h:1", REGISTER):
            assert world.state(N1) is NodeState.READY


async def test_one_contested_node_does_not_hold_up_the_others(autojump_clock: MockClock) -> None:
    ids = [f"{number:025d}" for number in range(20)]
    world = World(*[node(id) for id in ids], latency_s=0.01)

    async def register(id: str) -> None:
        async with world.dispatcher.session(id, "h:1", REGISTER):
            await trio.sleep_forever()

    async def contest() -> None:
        for number in range(100):
            spec = msgspec.structs.replace(world.node(ids[7]).spec, labels={"n": str(number)})
            world.update(world.node(ids[7]), spec=spec)
            await trio.sleep(0.005)

    async with world.reign(), trio.open_nursery() as nursery:
        nursery.start_soon(contest)
        for id in ids:
            nursery.start_soon(register, id)
        await trio.sleep(0.45)
        ready = [id for id in ids if world.state(id) is NodeState.READY]
        assert set(ids) - set(ready) <= {ids[7]}
        await trio.sleep(1)
        assert world.state(ids[7]) is NodeState.READY
        nursery.cancel_scope.cancel()


async def test_a_description_that_is_longer_than_any_is_refused_at_once(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    longest = NodeDescription(engine_labels={"x": "y" * (DESCRIPTION_BYTES_MAX - 100)})
    async with world.reign() as dispatcher:
        async with dispatcher.session(N1, "h:1", SessionRequest(description=longest)):
            assert world.state(N1) is NodeState.READY
        longer = NodeDescription(engine_labels={"x": "y" * DESCRIPTION_BYTES_MAX})
        before = world.store.state.index
        with pytest.raises(Invalid, match="at most 65,536 bytes") as refused:
            async with dispatcher.session(N1, "h:1", SessionRequest(description=longer)):
                pass
        assert refused.value.field == "$.description"
        assert world.store.state.index == before


async def test_a_description_that_fits_into_no_entry_is_refused_alone(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the limit of a description above that of an entry, as the entry's may be lower one day."""
    monkeypatch.setattr(node_writer, "DESCRIPTION_BYTES_MAX", 1 << 30)
    world = World(node(N1), node(N2), latency_s=0.01)
    huge = SessionRequest(description=NodeDescription(engine_labels={"x": "y" * 2_000_000}))
    refused = []

    async def register(id: str, request: SessionRequest) -> None:
        try:
            async with world.dispatcher.session(id, "h:1", request):
                await trio.sleep(1)
        except ResourceExhausted as error:
            refused.append((id, error))

    async with world.reign(), trio.open_nursery() as nursery:
        nursery.start_soon(register, N1, huge)
        nursery.start_soon(register, N2, REGISTER)
        await trio.sleep(0.5)
        assert world.state(N2) is NodeState.READY
    assert [id for id, _ in refused] == [N1]


async def test_what_is_revoked_is_told_at_the_start_and_at_each_change(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    world.revoked = ("a",)
    async with world.reign() as dispatcher, dispatcher.session(N1, "h:1", REGISTER) as stream:
        assert (await stream.__anext__()).revoked == ("a",)
        world.revoked = ("a", "b")
        dispatcher.managers_changed()
        with trio.fail_after(1):
            assert (await stream.__anext__()).revoked == ("a", "b")
        dispatcher.managers_changed()
        with trio.move_on_after(1) as quiet:
            await stream.__anext__()
        assert quiet.cancelled_caught, "nothing has changed"
