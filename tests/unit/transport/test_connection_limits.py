"""How many connections a peer may have and for how long, over real sockets: who is over a limit is told, and disturbs
nobody else."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from swarmd.errors import ResourceExhausted, Unavailable
from swarmd.transport.credentials import joining_context
from swarmd.transport.dialer import dial
from swarmd.transport.listener import FIRST_WORD_S_MAX
from swarmd.transport.places import ANONYMOUS_RETRY_S, ConnectionPlaces, SocketPlaces
from swarmd.wire.ca import RootRequest
from swarmd.wire.frames import Hello
from swarmd.wire.methods import CA_ROOT, HEALTH

from .test_listener import AUTHORITY, REQUEST, Served, served


def dial_anonymously(server: Served) -> Any:
    return dial(server.address, joining_context(AUTHORITY.root), Hello(), server_name="swarm-manager")


async def test_without_a_certificate_a_network_has_so_many_and_nodes_are_served_still() -> None:
    places = ConnectionPlaces(anonymous_of_a_network=3)
    async with served(connection_places=places) as server, contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(dial_anonymously(server))
        with pytest.raises(ResourceExhausted, match="your network has 3 connections here already") as refused:
            async with dial_anonymously(server):
                pass
        assert refused.value.retry_after_s == ANONYMOUS_RETRY_S, "that travels"
        assert await server.is_well(), "a node comes from the same network"
        await stack.aclose()
        await until_gone(server)
        async with dial_anonymously(server) as again:
            assert (await again.call(CA_ROOT, RootRequest())).certificate == AUTHORITY.root


async def test_a_node_has_so_many_and_others_are_served_still() -> None:
    places = ConnectionPlaces(of_a_node=2)
    async with served(connection_places=places) as server:
        async with server.dial() as one, server.dial():
            with pytest.raises(ResourceExhausted, match="node m2 has 2 connections here already"):
                async with server.dial():
                    pass
            async with server.dial(AUTHORITY.credentials("m3")) as other:
                await other.call(HEALTH, REQUEST)
            await one.call(HEALTH, REQUEST)
        await until_gone(server)
        assert await server.is_well()
    assert places._nodes == {}


async def test_silent_sockets_of_one_network_never_take_all_places(autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = 0.02
    places = SocketPlaces(of_a_network=5)
    async with served(socket_places=places) as server, server.dial() as node, contextlib.AsyncExitStack() as stack:

        async def knock() -> trio.SocketStream:
            return await stack.enter_async_context(
                await trio.open_tcp_stream("127.0.0.1", server.port, local_address="127.1.0.7")
            )

        silent = [await knock() for _ in range(5)]
        began = trio.current_time()
        assert await (await knock()).receive_some() == b"", "one too many is not even listened to"
        assert trio.current_time() - began < FIRST_WORD_S_MAX
        assert await server.is_well(), "another network has its own places"
        await node.call(HEALTH, REQUEST)
        for stream in silent:
            assert await stream.receive_some() == b""
        assert trio.current_time() - began == pytest.approx(FIRST_WORD_S_MAX, abs=2)
        await trio.testing.wait_all_tasks_blocked(0.01)
        late = await knock()
        with trio.move_on_after(FIRST_WORD_S_MAX / 2) as waiting:
            await late.receive_some()
        assert waiting.cancelled_caught, "it has a place again"


async def test_who_is_greeted_gives_the_sockets_place_back() -> None:
    places = SocketPlaces(of_a_network=1)
    async with served(socket_places=places) as server, server.dial() as one, server.dial() as two:
        await one.call(HEALTH, REQUEST)
        await two.call(HEALTH, REQUEST)
        assert places._networks == {}


async def test_a_refused_peer_takes_no_place() -> None:
    def nobody(peer: object) -> None:
        raise ResourceExhausted("not today")

    places = ConnectionPlaces()
    async with served(connection_places=places, admit=nobody) as server:
        for _ in range(3):
            with pytest.raises(ResourceExhausted, match="not today"):
                async with server.dial():
                    pass
    assert places._nodes == {}


async def test_without_a_certificate_it_lasts_so_long_and_one_dials_again(autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = 0.02
    async with served(anonymous_s_max=100.0) as server, server.dial() as node:
        async with dial_anonymously(server) as connection:
            began = trio.current_time()
            await connection.closed.wait()
            assert trio.current_time() - began == pytest.approx(100.0, abs=2.0)
            with pytest.raises(Unavailable):
                await connection.call(CA_ROOT, RootRequest())
        async with dial_anonymously(server) as again:
            await again.call(CA_ROOT, RootRequest())
        await node.call(HEALTH, REQUEST)


async def until_gone(server: Served) -> None:
    with trio.fail_after(5):
        while server.listener.connections:
            await trio.testing.wait_all_tasks_blocked(0.01)
