"""Both ends of a TCP connection are limited; a real cut is made by tests/chaos."""

from __future__ import annotations

import socket
from typing import Any

import trio

from swarmd.transport.dialer import dial
from swarmd.transport.listener import Listener
from swarmd.transport.tcp import UNACKNOWLEDGED_S_MAX
from swarmd.wire.frames import Hello

from .certificates import SWARM_ID, TestAuthority
from .pairs import open_router

AUTHORITY = TestAuthority()
HELLO = Hello(swarm=SWARM_ID)


def _limit_ms(connection: Any) -> int:
    stream: trio.SocketStream = connection._link._stream._inner._transport
    return stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)


async def test_dialed_and_accepted_connections_end_when_nothing_is_acknowledged(nursery: trio.Nursery) -> None:
    accepted: list[Any] = []
    seen = trio.Event()

    def note(connection: Any) -> None:
        accepted.append(connection)
        seen.set()

    server = AUTHORITY.credentials("m1")
    listener = Listener("127.0.0.1", 0, server, open_router(), lambda: HELLO, on_connection=note)
    port: int = await nursery.start(listener.run)
    context = AUTHORITY.credentials("m2").client_context()
    async with dial(f"127.0.0.1:{port}", context, HELLO) as dialed:
        with trio.fail_after(5):
            await seen.wait()
        assert _limit_ms(dialed) == _limit_ms(accepted[0]) == UNACKNOWLEDGED_S_MAX * 1000
    nursery.cancel_scope.cancel()
