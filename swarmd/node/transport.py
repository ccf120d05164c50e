"""How this node dials and listens: its credentials and HELLO put into every connection."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from swarmd import __version__
from swarmd.errors import SwarmError, Unavailable
from swarmd.node.config import DEFAULT_HOST, DEFAULT_PORT, Config, Endpoint
from swarmd.transport.connection import Connection, Router
from swarmd.transport.credentials import Credentials, joining_context
from swarmd.transport.dialer import dial
from swarmd.transport.listener import Listener
from swarmd.wire.frames import Hello
from swarmd.wire.identity import Caller


def anonymous_hello() -> Hello:
    """The HELLO of a node that has no identity yet."""
    return Hello(version=__version__)


class NodeTransport:
    """Dials and listens as this node."""

    def __init__(self, credentials: Credentials, features: tuple[str, ...]) -> None:
        self._credentials = credentials
        self._features = features

    def hello(self, class_: str = "control") -> Hello:
        """What this node says first on a connection of this class."""
        identity = self._credentials.identity
        return Hello(
            class_=class_,
            features=self._features,
            swarm=identity.swarm_id,
            node=identity.node_id,
            version=__version__,
        )

    def dial(
        self, address: str, class_: str = "control", *, router: Router | None = None
    ) -> AbstractAsyncContextManager[Connection]:
        """A connection that shows this node's certificate; `router` serves what the peer calls on it."""
        return dial(address, self._credentials.client_context(), self.hello(class_), router=router)

    def dial_anonymously(self, address: str) -> AbstractAsyncContextManager[Connection]:
        """A connection without a certificate, under the trust root: the door for an expired one."""
        return dial(address, joining_context(self._credentials.root), anonymous_hello(), server_name="swarm-ca")

    @asynccontextmanager
    async def dial_any(self, addresses: Callable[[], tuple[str, ...]], *, anonymous: bool) -> AsyncIterator[Connection]:
        """A connection to the first of `addresses` that answers. Raises `Unavailable` with what was tried."""
        reasons = []
        for address in addresses():
            reached = False
            try:
                async with self.dial_anonymously(address) if anonymous else self.dial(address) as connection:
                    reached = True
                    yield connection
                    return
            except SwarmError as error:
                if reached:
                    raise
                reasons.append(f"{address}: {error}")
        raise Unavailable(f"no manager answers ({'; '.join(reasons) or 'none is known'})")

    def listener(
        self,
        router: Router,
        endpoint: Endpoint,
        *,
        admit: Callable[[Caller], None],
        on_connection: Callable[[Connection], None],
    ) -> Listener:
        """A listener for `router`."""
        return Listener(
            endpoint.host,
            endpoint.port,
            self._credentials,
            router,
            self.hello,
            admit=admit,
            on_connection=on_connection,
        )


def listening_endpoint(config: Config, remembered_port: int) -> Endpoint:
    """Where to listen: a busy *default* port falls to a free one that is kept; what was asked for is never replaced."""
    if config.listen is not None:
        return config.listen if config.listen.port else Endpoint(config.listen.host, remembered_port)
    port = remembered_port or DEFAULT_PORT
    return Endpoint(DEFAULT_HOST, port if _is_free(DEFAULT_HOST, port) else 0)


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True
