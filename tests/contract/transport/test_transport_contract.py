"""What every way to connect promises alike: TLS over loopback, the control socket, and plain memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from swarmd.errors import DeadlineExceeded, NotFound, Unavailable, Unimplemented
from swarmd.model import Role
from swarmd.transport.connection import Call, Connection, Router, Stream
from swarmd.transport.control_socket import ControlSocket
from swarmd.transport.dialer import connect_socket, dial
from swarmd.transport.listener import Listener
from swarmd.wire.dispatch import AssignmentsMessage, AssignmentsRequest
from swarmd.wire.frames import CHUNK_BYTES_MAX, Hello
from swarmd.wire.identity import Identity
from swarmd.wire.methods import ASSIGNMENTS, HEALTH, NODE_GET, RAFT_MESSAGES, RAFT_SNAPSHOT, TASK_GET
from swarmd.wire.peer import HealthReply, HealthRequest, Nothing, SnapshotChunk
from tests.unit.transport.certificates import TestAuthority
from tests.unit.transport.pairs import connected

AUTHORITY = TestAuthority()
SERVER, CLIENT = AUTHORITY.credentials("m1"), AUTHORITY.credentials("m2")
IDENTITY = Identity(node_id="m1", role=Role.MANAGER, swarm_id="s")

Connect = Callable[[Router], AbstractAsyncContextManager[Connection]]


@asynccontextmanager
async def over_tls(router: Router) -> AsyncIterator[Connection]:
    listener = Listener("127.0.0.1", 0, SERVER, router, Hello)
    async with trio.open_nursery() as nursery:
        port = await nursery.start(listener.run)
        async with dial(f"127.0.0.1:{port}", CLIENT.client_context(), Hello()) as connection:
            yield connection
        nursery.cancel_scope.cancel()


@pytest.fixture(params=["tls", "control socket", "memory"])
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Connect:
    @asynccontextmanager
    async def over_control_socket(router: Router) -> AsyncIterator[Connection]:
        async with trio.open_nursery() as nursery:
            await nursery.start(ControlSocket(tmp_path / "s", IDENTITY, router, Hello).run)
            async with connect_socket(tmp_path / "s", Hello()) as connection:
                yield connection
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def over_memory(router: Router) -> AsyncIterator[Connection]:
        async with connected(router) as pair:
            yield pair.client

    ways: dict[str, Connect] = {"tls": over_tls, "control socket": over_control_socket, "memory": over_memory}
    return ways[request.param]


class Service:
    """One handler of each shape, and what they saw."""

    def __init__(self) -> None:
        self.router = Router(lambda _method, _caller: None)
        self.posted: list[bytes] = []
        self.has_all = trio.Event()
        self.is_stuck = trio.Event()
        self.was_cancelled = trio.Event()
        self.snapshot_bytes = 0
        handlers: dict[Any, Any] = {
            HEALTH: self._health,
            NODE_GET: self._missing,
            TASK_GET: self._stuck,
            ASSIGNMENTS: self._count,
            RAFT_SNAPSHOT: self._collect,
            RAFT_MESSAGES: self._take,
        }
        for method, handler in handlers.items():
            self.router.add(method, handler)

    async def _health(self, call: Call, request: HealthRequest) -> HealthReply:
        return HealthReply(node_id="m1", leader_addresses=("x" * 100_000,))

    async def _missing(self, call: Call, request: Any) -> Any:
        raise NotFound("no such node", hint="look")

    async def _stuck(self, call: Call, request: Any) -> Any:
        self.is_stuck.set()
        try:
            await trio.sleep_forever()
        finally:
            self.was_cancelled.set()

    async def _count(self, call: Call, request: Any, stream: Stream[AssignmentsMessage, Any]) -> None:
        for number in range(300):
            await stream.send(AssignmentsMessage(results_in=str(number)))

    async def _collect(self, call: Call, first: SnapshotChunk, stream: Stream[Nothing, SnapshotChunk]) -> Nothing:
        self.snapshot_bytes = len(first.data)
        async for chunk in stream:
            self.snapshot_bytes += len(chunk.data)
        return Nothing()

    async def _take(self, call: Call, first: None, stream: Stream[Nothing, bytes]) -> None:
        async for message in stream:
            self.posted.append(message)
            if len(self.posted) == 500:
                self.has_all.set()


async def test_calls_answer_or_fail_with_a_type(connect: Connect) -> None:
    async with connect(Service().router) as connection:
        assert len((await connection.call(HEALTH, HealthRequest())).leader_addresses[0]) == 100_000
        with pytest.raises(NotFound, match="no such node"):
            await connection.call(NODE_GET, {"id": "x"})  # type: ignore[arg-type]


async def test_a_deadline_ends_a_call_on_both_sides(connect: Connect) -> None:
    service = Service()
    async with connect(service.router) as connection:
        with pytest.raises(DeadlineExceeded):
            await connection.call(TASK_GET, {"id": "x"}, timeout_s=0.02)  # type: ignore[arg-type]
        with trio.fail_after(5):
            await service.was_cancelled.wait()
        await connection.call(HEALTH, HealthRequest())


async def test_cancellation_reaches_the_handler(connect: Connect) -> None:
    service = Service()
    async with connect(service.router) as connection:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.call, TASK_GET, {"id": "x"})
            await service.is_stuck.wait()
            nursery.cancel_scope.cancel()
        with trio.fail_after(5):
            await service.was_cancelled.wait()


async def test_streams_run_in_both_directions(connect: Connect) -> None:
    service = Service()
    async with connect(service.router) as connection:
        async with connection.open(ASSIGNMENTS, AssignmentsRequest(session_id="s")) as down:
            assert [int(message.results_in) async for message in down] == list(range(300))
        async with connection.open(RAFT_SNAPSHOT) as up:
            for number in range(12):
                await up.send(SnapshotChunk(offset=number * CHUNK_BYTES_MAX, data=bytes(CHUNK_BYTES_MAX)))
            await up.end()
            assert await up.receive() == Nothing()
    assert service.snapshot_bytes == 12 * CHUNK_BYTES_MAX


async def test_posts_arrive_in_order(connect: Connect) -> None:
    service = Service()
    sent = [number.to_bytes(2, "big") * (number % 90) for number in range(500)]
    async with connect(service.router) as connection:
        for message in sent:
            assert connection.post(RAFT_MESSAGES, message)
        with trio.fail_after(5):
            await service.has_all.wait()
    assert service.posted == sent


async def test_posts_that_the_socket_does_not_take_at_once_arrive_too(connect: Connect) -> None:
    service = Service()
    sent = [number.to_bytes(2, "big") * 14_000 for number in range(500)]  # 14 MB: no socket buffer takes that
    async with connect(service.router) as connection:
        for message in sent:
            assert connection.post(RAFT_MESSAGES, message)
        answers = [await connection.call(HEALTH, HealthRequest()) for _ in range(3)]
        with trio.fail_after(20):
            await service.has_all.wait()
    assert service.posted == sent
    assert len(answers) == 3


async def test_what_is_not_served_is_unimplemented(connect: Connect) -> None:
    async with connect(Router(lambda _method, _caller: None)) as connection:
        with pytest.raises(Unimplemented):
            await connection.call(HEALTH, HealthRequest())


async def test_a_closed_connection_is_unavailable(connect: Connect) -> None:
    async with connect(Service().router) as connection:
        await connection.aclose()
        assert connection.closed.is_set()
        with pytest.raises(Unavailable):
            await connection.call(HEALTH, HealthRequest())
        assert not connection.post(RAFT_MESSAGES, b"x")
