"""Accepting connections over TCP with TLS. `ControlSocket` is beside, in control_socket.py."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Final

import trio

from swarmd.errors import FailedPrecondition, ResourceExhausted
from swarmd.transport.connection import Connection, Router
from swarmd.transport.control_socket import ControlSocket
from swarmd.transport.credentials import Credentials, identity_of
from swarmd.transport.establish import establish
from swarmd.transport.expiry import ANONYMOUS_S_MAX
from swarmd.transport.link import LinkLost
from swarmd.transport.places import ConnectionPlaces, HandshakePlaces, SocketPlaces
from swarmd.transport.serving import ServedConnections
from swarmd.transport.tcp import limit_unacknowledged
from swarmd.transport.tls import TlsStream
from swarmd.wire.frames import Hello
from swarmd.wire.identity import Caller

__all__ = ["ControlSocket", "Listener"]

log = logging.getLogger(__name__)

FIRST_WORD_S_MAX: Final = 5.0
"""Who connects and says nothing is given up after this."""


class Listener:
    """Serves `router` on TCP. Limits: first byte 5 s, handshake 10 s, 64 handshakes at once of one network and 512 in
    all, 1,024 sockets of one network that are not greeted yet, connection cap a setting above 10,000; 64 connections of
    one node, and without a certificate 64 of one network, 4,096 in all, 150 s each.

    A peer's misbehaviour ends that peer's connection, and nothing else notices.
    """

    def __init__(
        self,
        host: str,
        port: int,
        credentials: Credentials,
        router: Router,
        hello: Callable[[], Hello],
        *,
        on_connection: Callable[[Connection], None] | None = None,
        connections_max: int = 16_384,
        admit: Callable[[Caller], None] | None = None,
        now: Callable[[], float] | None = None,
        socket_places: SocketPlaces | None = None,
        connection_places: ConnectionPlaces | None = None,
        anonymous_s_max: float = ANONYMOUS_S_MAX,
    ) -> None:
        """`host` empty: every address. `hello` is asked for each connection. `on_connection` sees each once greeted.

        `admit` raises what a peer with a certificate is told instead of HELLO: a removed node is refused at the door.
        `now` (epoch seconds) ends each connection with its peer's certificate.
        """
        self._host = host
        self._port = port
        self._credentials = credentials
        self._router = router
        self._hello = hello
        self._connections_max = connections_max
        self._admit = admit
        self._places = HandshakePlaces()
        self._socket_places = SocketPlaces() if socket_places is None else socket_places
        self._connection_places = ConnectionPlaces() if connection_places is None else connection_places
        self._accepted = 0
        self._served = ServedConnections(on_connection, now=now, anonymous_s_max=anonymous_s_max)

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Starts with the bound port. Raises `FailedPrecondition` if the address is in use."""
        listeners = await self._bind()
        port: int = listeners[0].socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(trio.serve_listeners, self._serve_socket, listeners, handler_nursery=nursery))
            task_status.started(port)

    async def _bind(self) -> list[trio.SocketListener]:
        try:
            return await trio.open_tcp_listeners(self._port, host=self._host or None)
        except OSError as error:
            address = f"{self._host or '*'}:{self._port}"
            if error.errno == errno.EADDRINUSE:
                raise FailedPrecondition(f"the address {address} is in use", hint="choose another port") from error
            raise FailedPrecondition(f"cannot listen on {address}: {error.strerror or error}") from error

    @property
    def connections(self) -> frozenset[Connection]:
        """The greeted connections of this moment."""
        return frozenset(self._served.current)

    async def _serve_socket(self, stream: trio.SocketStream) -> None:
        if self._accepted >= self._connections_max:
            log.warning("refused a connection: %d are open", self._accepted)
            await trio.aclose_forcefully(stream)
            return
        self._accepted += 1
        try:
            with ExitStack() as knocking, ExitStack() as places:
                knocking.callback(self._socket_places.take(_host(stream)))
                limit_unacknowledged(stream)
                address = _peer_address(stream)
                tls = TlsStream(stream, self._credentials.server_context())

                async def greet(nursery: trio.Nursery) -> Connection:
                    connection = await self._greet(stream, tls, address, places, nursery)
                    knocking.close()
                    return connection

                await self._served.serve(tls, address, greet)
        except ResourceExhausted as error:
            log.debug("refused a connection of %s: %s", _host(stream), error)
            await trio.aclose_forcefully(stream)
        finally:
            self._accepted -= 1

    async def _greet(
        self, stream: trio.SocketStream, tls: TlsStream, address: str, places: ExitStack, nursery: trio.Nursery
    ) -> Connection:
        # Whoever connects and says nothing takes no handshake's place from others.
        with trio.move_on_after(FIRST_WORD_S_MAX) as patience:
            await trio.lowlevel.wait_readable(stream.socket)
        if patience.cancelled_caught:
            raise LinkLost(f"said nothing within {FIRST_WORD_S_MAX:g} s")
        host = _host(stream)
        async with self._places.one(host):
            await tls.do_handshake()
            der = tls.peer_certificate_der
            peer = Caller(identity=identity_of(tls.peer_certificate, der), address=address, certificate=der)
            return await establish(
                nursery,
                tls,
                is_dialer=False,
                hello=self._hello(),
                peer=peer,
                router=self._router,
                admit=partial(self._let_in, host, places),
            )

    def _let_in(self, host: str, places: ExitStack, peer: Caller) -> None:
        """Refuse a peer that may call nothing or has enough connections; else `places` keeps the one it takes."""
        if self._admit is not None:
            self._admit(peer)
        node_id = peer.identity.node_id if peer.identity is not None else ""
        places.callback(self._connection_places.take(node_id, host))


def _host(stream: trio.SocketStream) -> str:
    try:
        return str(stream.socket.getpeername()[0])
    except OSError:
        return ""


def _peer_address(stream: trio.SocketStream) -> str:
    try:
        name = stream.socket.getpeername()
    except OSError:
        return "a peer that is gone"
    host, port = name[0], name[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
