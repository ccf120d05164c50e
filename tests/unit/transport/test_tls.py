"""TLS as a stream: Trio's own checks, alerts, and what a cut connection looks like."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from swarmd.model import Role
from swarmd.transport.credentials import Credentials
from swarmd.transport.tls import TlsStream

from .certificates import TestAuthority

AUTHORITY = TestAuthority()
SERVER = AUTHORITY.credentials("m1")
CLIENT = AUTHORITY.credentials("w1", Role.WORKER)


def _ends(client: ssl.SSLContext, pair: Any = trio.testing.memory_stream_pair) -> tuple[TlsStream, TlsStream, Any, Any]:
    near, far = pair()
    return (
        TlsStream(near, client, server_name="swarm-manager"),
        TlsStream(far, SERVER.server_context()),
        near,
        far,
    )


@asynccontextmanager
async def _connected() -> AsyncIterator[tuple[TlsStream, TlsStream, Any, Any]]:
    client, server, near, far = _ends(CLIENT.client_context())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        nursery.start_soon(server.do_handshake)
    yield client, server, near, far
    await trio.aclose_forcefully(client)
    await trio.aclose_forcefully(server)


async def test_both_ends_see_each_others_certificate() -> None:
    async with _connected() as (client, server, _near, _far):
        assert client.peer_certificate["subject"]
        assert server.peer_certificate["subject"]


async def test_megabytes_pass_in_both_directions_at_once() -> None:
    payload = bytes(range(256)) * 8192

    async def read(stream: TlsStream) -> None:
        received = bytearray()
        while len(received) < len(payload):
            received += await stream.receive_some()
        assert received == payload

    async with _connected() as (client, server, _near, _far), trio.open_nursery() as nursery:
        for stream in (client, server):
            nursery.start_soon(stream.send_all, payload)
            nursery.start_soon(read, stream)


@asynccontextmanager
async def _connected_by_sockets() -> AsyncIterator[tuple[TlsStream, TlsStream]]:
    near, far = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in _tcp_pair())
    client = TlsStream(near, CLIENT.client_context(), server_name="swarm-manager")
    server = TlsStream(far, SERVER.server_context())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        nursery.start_soon(server.do_handshake)
    yield client, server
    await trio.aclose_forcefully(client)
    await trio.aclose_forcefully(server)


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    for end in (near, far):
        end.setblocking(False)
    return near, far


async def test_a_send_without_waiting_leaves_the_rest_for_flush() -> None:
    payload = bytes(range(256)) * 65536
    async with _connected_by_sockets() as (client, server):
        assert client.can_send_now
        assert client.send_now(b"first")
        assert await server.receive_some() == b"first"
        assert not client.send_now(payload)
        assert not client.can_send_now
        received = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.flush)
            while len(received) < len(payload):
                received += await server.receive_some()
        assert received == payload
        assert client.can_send_now


async def test_a_send_after_a_partial_one_keeps_the_order() -> None:
    payload = bytes(16 << 20)
    async with _connected_by_sockets() as (client, server):
        assert not client.send_now(payload)
        received = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, b"last")
            while len(received) < len(payload) + 4:
                received += await server.receive_some()
        assert received[-4:] == b"last"


async def test_a_send_without_waiting_to_a_peer_that_is_gone_breaks_the_stream() -> None:
    async with _connected_by_sockets() as (client, server):
        await trio.aclose_forcefully(server)
        client.send_now(b"the first may still be taken")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BrokenResourceError):
            client.send_now(b"and is answered by a reset")
        assert not client.can_send_now


async def test_memory_is_no_socket() -> None:
    async with _connected() as (client, _server, _near, _far):
        assert not client.can_send_now


async def test_one_send_is_one_write_and_one_read_takes_all_records() -> None:
    async with _connected() as (client, server, near, _far):
        writes = []
        original = near.send_stream.send_all

        async def count(data: Any) -> None:
            writes.append(len(data))
            await original(data)

        near.send_stream.send_all = count
        await client.send_all(bytes(60_000))
        assert len(writes) == 1
        assert len(await server.receive_some(64 << 10)) == 60_000


async def test_a_goodbye_and_a_cut_both_read_as_the_end() -> None:
    async with _connected() as (client, server, _near, _far):
        await client.send_all(b"last words")
        await client.aclose()
        assert await server.receive_some() == b"last words"
        assert await server.receive_some() == b""
    async with _connected() as (_client, server, near, _far):
        await trio.aclose_forcefully(near)
        assert await server.receive_some() == b""


async def test_damaged_bytes_break_the_stream_with_their_cause() -> None:
    async with _connected() as (_client, server, near, _far):
        await near.send_all(b"this is no TLS record at all, is it?")
        with pytest.raises(trio.BrokenResourceError) as broken:
            await server.receive_some()
        assert isinstance(broken.value.__cause__, ssl.SSLError)
        assert server.failure is broken.value.__cause__


async def test_a_closed_stream_refuses_work() -> None:
    async with _connected() as (client, _server, _near, _far):
        await client.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await client.send_all(b"x")
        with pytest.raises(trio.ClosedResourceError):
            await client.receive_some()
        await client.aclose()


async def test_a_cancelled_send_breaks_the_stream() -> None:
    client, server, _near, _far = _ends(CLIENT.client_context(), trio.testing.lockstep_stream_pair)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        nursery.start_soon(server.do_handshake)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, bytes(100))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    with pytest.raises(trio.ClosedResourceError):
        await client.send_all(b"x")
    await trio.aclose_forcefully(client)
    await trio.aclose_forcefully(server)


async def test_a_refused_client_is_told_why_with_its_first_read() -> None:
    issued = AUTHORITY.issue("w2", Role.WORKER, valid_from_h=-10, valid_for_h=1)
    expired = Credentials(certificate=issued.certificate, key=issued.key, root=AUTHORITY.root)
    client, server, _near, _far = _ends(expired.client_context())

    async def refuse() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await server.do_handshake()
        await server.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse)
        await client.do_handshake()
        with pytest.raises(trio.BrokenResourceError):
            await client.receive_some()
    assert isinstance(client.failure, ssl.SSLError)
    assert "EXPIRED" in (client.failure.reason or "")
    await client.aclose()


async def test_a_client_that_does_not_trust_the_server_says_so() -> None:
    stranger = TestAuthority().credentials("w3", Role.WORKER)
    client, server, _near, _far = _ends(stranger.client_context())
    with pytest.RaisesGroup(trio.BrokenResourceError, trio.BrokenResourceError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_collect, client.do_handshake, nursery)
            nursery.start_soon(_collect, server.do_handshake, nursery)
    assert isinstance(client.failure, ssl.SSLCertVerificationError)
    assert "ALERT_UNKNOWN_CA" in (getattr(server.failure, "reason", "") or "")
    await client.aclose()
    await server.aclose()


async def _collect(handshake: Any, _nursery: trio.Nursery) -> None:
    """Run to the end even if the other side has failed already."""
    with trio.CancelScope(shield=True):
        await handshake()
