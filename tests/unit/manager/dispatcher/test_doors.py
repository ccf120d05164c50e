"""The two doors to the dispatcher: the router's handlers and the leader's own in-memory link."""

from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from swarmd.agent.link import DispatcherLink
from swarmd.errors import Unauthenticated, Unavailable
from swarmd.manager.dispatcher import LocalLink, handlers
from swarmd.model import NodeState, Role, TaskState, TaskStatus
from swarmd.transport.connection import Call
from swarmd.wire import dispatch
from swarmd.wire.dispatch import ManagerPeer, ReportedStatus
from swarmd.wire.identity import Caller, Identity
from swarmd.wire.methods import ASSIGNMENTS, GOODBYE, HEARTBEAT, METHODS, SESSION, UPDATE_STATUS
from tests.unit.manager.dispatcher.world import N1, N2, REGISTER, World, node, settle, task, task_id

WORKER = Caller(identity=Identity(node_id=N1, role=Role.WORKER, swarm_id="s"), address="192.0.2.1:5")


class FakeCall:
    def __init__(self, caller: Caller) -> None:
        self.caller = caller


class FakeStream:
    """Keeps what a handler sends."""

    def __init__(self) -> None:
        self.send_channel, self.receive_channel = trio.open_memory_channel[Any](10)

    async def send(self, message: Any) -> None:
        await self.send_channel.send(message)


def call(caller: Caller = WORKER) -> Call:
    return cast("Call", FakeCall(caller))


def test_every_dispatcher_method_has_a_handler() -> None:
    served = {method.name for method in handlers(lambda: None)}
    assert served == {name for name in METHODS if name.startswith("dispatcher.")}


async def test_the_node_is_the_certificates(autojump_clock: MockClock) -> None:
    world = World(node(N1), node(N2))
    world.store.create(task(1))
    async with world.reign() as dispatcher, trio.open_nursery() as connection:
        serve: dict[Any, Any] = dict(handlers(lambda: dispatcher))
        sessions, assignments = FakeStream(), FakeStream()
        connection.start_soon(serve[SESSION], call(), REGISTER, sessions)
        first = await sessions.receive_channel.receive()
        assert first.node.id == N1
        assert world.status(N1).addr == "192.0.2.1"
        session = {"session_id": first.session_id}
        assert (await serve[HEARTBEAT](call(), dispatch.HeartbeatRequest(**session))).period_s > 0
        connection.start_soon(serve[ASSIGNMENTS], call(), dispatch.AssignmentsRequest(**session), assignments)
        assert [t.id for t in (await assignments.receive_channel.receive()).tasks] == [task_id(1)]
        update = ReportedStatus(task_id=task_id(1), status=TaskStatus(state=TaskState.RUNNING))
        await serve[UPDATE_STATUS](call(), dispatch.UpdateStatusRequest(**session, updates=(update,)))
        assert world.task(1).status.state is TaskState.RUNNING
        connection.cancel_scope.cancel()
    assert world.state(N1) is NodeState.READY  # the reign was cancelled before it could say more


async def test_a_cut_connection_is_a_lost_session(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher:
        serve: dict[Any, Any] = dict(handlers(lambda: dispatcher))
        stream = FakeStream()
        async with trio.open_nursery() as connection:
            connection.start_soon(serve[SESSION], call(), REGISTER, stream)
            await stream.receive_channel.receive()
            connection.cancel_scope.cancel()
        await settle()
        assert world.state(N1) is NodeState.DISCONNECTED


async def test_a_goodbye_over_the_network_ends_the_streams(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher:
        serve: dict[Any, Any] = dict(handlers(lambda: dispatcher))
        stream = FakeStream()
        async with trio.open_nursery() as connection:
            connection.start_soon(serve[SESSION], call(), REGISTER, stream)
            first = await stream.receive_channel.receive()
            await serve[GOODBYE](call(), dispatch.GoodbyeRequest(session_id=first.session_id, leaving=True))
        assert world.state(N1) is NodeState.DOWN


async def test_a_manager_that_does_not_lead_names_the_leader(autojump_clock: MockClock) -> None:
    peers = (ManagerPeer(node_id=N1, addresses=("a:1",)), ManagerPeer(node_id=N2, addresses=("b:1",), is_leader=True))
    serve: dict[Any, Any] = dict(handlers(lambda: None, managers=lambda: peers))
    with pytest.raises(Unavailable) as refused:
        await serve[HEARTBEAT](call(), dispatch.HeartbeatRequest(session_id="s"))
    assert refused.value.object == f"manager {N2}"
    assert "b:1" in (refused.value.hint or "")
    with pytest.raises(Unavailable, match="no leader"):
        await dict(handlers(lambda: None))[SESSION](call(), REGISTER, FakeStream())  # type: ignore[call-arg, arg-type]


async def test_nobody_without_a_certificate_has_a_session(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    async with world.reign() as dispatcher:
        serve: dict[Any, Any] = dict(handlers(lambda: dispatcher))
        with pytest.raises(Unauthenticated):
            await serve[HEARTBEAT](call(Caller(address="a:1")), dispatch.HeartbeatRequest(session_id="s"))


async def test_the_local_link_keeps_the_agents_protocol(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    world.store.create(task(1))
    async with world.reign() as dispatcher:
        link: DispatcherLink = LocalLink(dispatcher, N1, "10.0.0.1:4242")
        async with link.session(REGISTER) as messages:
            first = await messages.__anext__()
            assert world.status(N1).addr == "10.0.0.1"
            session_id = first.session_id
            await link.heartbeat(dispatch.HeartbeatRequest(session_id=session_id))
            async with link.assignments(dispatch.AssignmentsRequest(session_id=session_id)) as assignments:
                assert len((await assignments.__anext__()).tasks) == 1
            await link.update_status(dispatch.UpdateStatusRequest(session_id=session_id, updates=()))
            await link.goodbye(dispatch.GoodbyeRequest(session_id=session_id))
        assert world.state(N1) is NodeState.DISCONNECTED
