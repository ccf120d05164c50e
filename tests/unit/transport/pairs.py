"""Connected pairs over memory: whole connections, no socket, virtual time."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio
import trio.testing

from swarmd.model import Role
from swarmd.transport.connection import Connection, Router
from swarmd.transport.establish import establish, no_calls
from swarmd.wire.frames import Hello
from swarmd.wire.identity import Caller, Identity

MANAGER = Caller(identity=Identity(node_id="m1", role=Role.MANAGER, swarm_id="s"), address="memory")
ANONYMOUS = Caller(address="memory")
PLAIN = Hello()


@dataclass
class Pair:
    """Both ends, and the wires between them."""

    client: Connection
    server: Connection
    client_stream: trio.StapledStream[Any, Any]
    server_stream: trio.StapledStream[Any, Any]


def open_router() -> Router:
    """Lets everybody in."""
    return Router(lambda _method, _caller: None)


@asynccontextmanager
async def connected(
    server_router: Router,
    *,
    client_router: Router | None = None,
    seen_by_server: Caller = MANAGER,
    client_hello: Hello = PLAIN,
    server_hello: Hello = PLAIN,
    pair: Callable[[], Any] = trio.testing.memory_stream_pair,
) -> AsyncIterator[Pair]:
    """A client and a server that have greeted each other and run."""
    client_stream, server_stream = pair()
    ends: dict[str, Connection] = {}

    async with trio.open_nursery() as nursery:

        async def end(name: str, stream: Any, hello: Hello, peer: Caller, router: Router) -> None:
            ends[name] = await establish(
                nursery, stream, is_dialer=name == "client", hello=hello, peer=peer, router=router
            )

        async with trio.open_nursery() as greeting:
            greeting.start_soon(end, "client", client_stream, client_hello, MANAGER, client_router or no_calls())
            greeting.start_soon(end, "server", server_stream, server_hello, seen_by_server, server_router)
        for connection in ends.values():
            nursery.start_soon(connection.run)
        try:
            yield Pair(ends["client"], ends["server"], client_stream, server_stream)
        finally:
            logging.getLogger(__name__).debug("closing the pair")
            nursery.cancel_scope.cancel()
