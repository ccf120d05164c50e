"""Sending in the caller's own turn: what it may hold up, and what a sink's failure ends."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from swarmd.errors import Internal, Invalid
from swarmd.transport.connection import Call
from swarmd.transport.tls import TlsStream
from swarmd.wire.frames import DataFrame, encode_frame
from swarmd.wire.methods import HEALTH, RAFT_MESSAGES
from swarmd.wire.peer import HealthReply, HealthRequest

from .certificates import TestAuthority
from .pairs import connected, open_router

AUTHORITY = TestAuthority()
SERVER = AUTHORITY.credentials("m1")
CLIENT = AUTHORITY.credentials("m2")
MORE_THAN_A_SOCKET_TAKES = bytes(16 << 20)


@asynccontextmanager
async def _tls_over_sockets(
    first: Callable[[Any], Any] = trio.SocketStream,
) -> AsyncIterator[tuple[TlsStream, TlsStream]]:
    near, far = (first(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair())
    client = TlsStream(near, CLIENT.client_context(), server_name="swarm-manager")
    server = TlsStream(far, SERVER.server_context())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        nursery.start_soon(server.do_handshake)
    # TLS 1.3 tickets that the server sent after its handshake.
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.receive_some)
        nursery.start_soon(server.send_all, b"x")
    yield client, server
    await trio.aclose_forcefully(client)
    await trio.aclose_forcefully(server)


async def _read(stream: TlsStream, size: int) -> None:
    while size > 0:
        data = await stream.receive_some()
        assert data
        size -= len(data)
    assert size == 0


async def test_a_reader_does_not_wait_for_what_send_now_left() -> None:
    """Else two ends that both filled their sockets would wait for each other for ever."""
    async with _tls_over_sockets() as (client, server):
        assert not client.send_now(MORE_THAN_A_SOCKET_TAKES)
        assert not server.send_now(MORE_THAN_A_SOCKET_TAKES)
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for stream in (client, server):
                    nursery.start_soon(_read, stream, len(MORE_THAN_A_SOCKET_TAKES))
                await trio.testing.wait_all_tasks_blocked()
                for stream in (client, server):
                    nursery.start_soon(stream.flush)


async def test_a_reader_hears_the_peer_while_a_send_is_stuck() -> None:
    async with _tls_over_sockets() as (client, server):
        assert not client.send_now(MORE_THAN_A_SOCKET_TAKES)
        await server.send_all(b"hello")
        with trio.fail_after(5):
            assert await client.receive_some() == b"hello"
        assert not client.can_send_now


async def test_a_send_behind_a_stuck_one_keeps_the_reader_hearing() -> None:
    """The writer waits in the socket; a control frame of trio-websocket's is put behind it."""
    async with _tls_over_sockets() as (client, server), trio.open_nursery() as nursery:
        assert not client.send_now(MORE_THAN_A_SOCKET_TAKES)
        nursery.start_soon(client.flush)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(client.send_all, b"pong")
        await trio.testing.wait_all_tasks_blocked()
        await server.send_all(b"hello")
        with trio.fail_after(5):
            assert await client.receive_some() == b"hello"
        nursery.cancel_scope.cancel()


async def _healthy(call: Call, request: HealthRequest) -> HealthReply:
    return HealthReply(node_id="m1")


async def test_a_defect_in_a_sink_ends_its_stream_and_not_the_connection() -> None:
    def make(call: Call) -> Callable[[bytes], None]:
        def fail(message: bytes) -> None:
            raise KeyError(message)

        return fail

    router = open_router()
    router.add(HEALTH, _healthy)
    router.add_sink(RAFT_MESSAGES, make)
    async with connected(router) as pair:
        pair.client.post(RAFT_MESSAGES, b"secret")
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(pair.client.post_error, Internal)
        assert "secret" not in str(pair.client.post_error)
        assert (await pair.client.call(HEALTH, HealthRequest())).node_id == "m1"


async def test_a_body_that_is_none_ends_a_sinks_stream_and_not_the_connection() -> None:
    router = open_router()
    router.add(HEALTH, _healthy)
    router.add_sink(RAFT_MESSAGES, lambda call: lambda message: None)
    async with connected(router) as pair:
        pair.client.post(RAFT_MESSAGES, b"x")
        await trio.testing.wait_all_tasks_blocked()
        (number,) = pair.client._posts
        pair.client._say(encode_frame(DataFrame(number, {"messages": 7})))
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(pair.client.post_error, Invalid)
        assert (await pair.client.call(HEALTH, HealthRequest())).node_id == "m1"
