"""From a connected stream to a `Connection`: WebSocket upgrade, then HELLO. Both ends do it alike."""

from __future__ import annotations

from collections.abc import Callable

import trio

from swarmd.errors import PermissionDenied, SwarmError
from swarmd.transport.connection import Connection
from swarmd.transport.link import Link
from swarmd.transport.router import Router
from swarmd.transport.session import ANONYMOUS, AUTHENTICATED, Session
from swarmd.wire.frames import Hello
from swarmd.wire.identity import Caller
from swarmd.wire.methods import Method


async def establish(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    *,
    is_dialer: bool,
    hello: Hello,
    peer: Caller,
    router: Router,
    admit: Callable[[Caller], None] | None = None,
) -> Connection:
    """A greeted connection, still to be `run`; its WebSocket runs in `nursery` and closes `stream` in the end.

    `admit` raises what the peer is told in place of HELLO. Raises `LinkLost`, or what is wrong with the peer (which is
    told). The caller sets the time limit.
    """
    limits = AUTHENTICATED if peer.identity is not None else ANONYMOUS
    link = Link(stream, is_dialer=is_dialer, frame_bytes_max=limits.frame_bytes_max)
    await nursery.start(link.run)
    session = Session(is_dialer=is_dialer, hello=hello, limits=limits)
    connection = Connection(link, session, peer, router)
    try:
        if admit is not None:
            admit(peer)
        await connection.greet()
    except SwarmError as error:
        await connection.refuse(error)
        raise
    return connection


def no_calls() -> Router:
    """For an end that serves nothing."""

    def refuse(method: Method[object, object], _caller: Caller) -> None:
        raise PermissionDenied(f"this end of the connection does not serve {method.name}")

    return Router(refuse)
