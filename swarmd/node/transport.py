"""How this node dials and listens: its credentials and HELLO put into every connection."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio

from swarmd import __version__
from swarmd.errors import FailedPrecondition, SwarmError, Unavailable
from swarmd.node.config import DEFAULT_HOST, DEFAULT_PORT, Config, Endpoint
from swarmd.transport.connection import Connection, Router
from swarmd.transport.credentials import Credentials, joining_context
from swarmd.transport.dialer import UnknownAuthority, dial
from swarmd.transport.listener import Listener
from swarmd.wire.frames import Hello
from swarmd.wire.identity import Caller

log = logging.getLogger(__name__)


def anonymous_hello() -> Hello:
    """The HELLO of a node that has no identity yet."""
    return Hello(version=__version__)


class NodeTransport:
    """Dials and listens as this node."""

    def __init__(
        self, credentials: Credentials, features: tuple[str, ...], *, now: Callable[[], float] | None = None
    ) -> None:
        """`now` (epoch seconds) ends each connection with its peer's certificate."""
        self._now = now
        self.on_stranger: Callable[[str], None] = lambda _address: None
        """Told an address where a manager is looked for and somebody answers for whom no trusted root vouches."""
        self._credentials = credentials
        self._features = features
        self._distrusted: frozenset[str] = frozenset()

    def distrust(self, fingerprints: Iterable[str]) -> None:
        """From now on refuse exactly the peers that show one of these certificates: they were a manager's."""
        self._distrusted = frozenset(fingerprints)

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

    @asynccontextmanager
    async def dial(
        self, address: str, class_: str = "control", *, router: Router | None = None
    ) -> AsyncIterator[Connection]:
        """A connection that shows this node's certificate; `router` serves what the peer calls on it."""
        try:
            async with self._dial(address, class_, router) as connection:
                yield connection
        except UnknownAuthority:
            self.on_stranger(address)
            raise

    def _dial(self, address: str, class_: str, router: Router | None) -> AbstractAsyncContextManager[Connection]:
        return dial(
            address,
            self._credentials.client_context(),
            self.hello(class_),
            router=router,
            now=self._now,
            distrusted=self._distrusted,
        )

    def dial_anonymously(self, address: str) -> AbstractAsyncContextManager[Connection]:
        """A connection without a certificate, under the trust root: the door for an expired one."""
        return dial(
            address,
            joining_context(self._credentials.root),
            anonymous_hello(),
            server_name="swarm-ca",
            distrusted=self._distrusted,
        )

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
        *,
        config: Config,
        remembered_port: int,
        admit: Callable[[Caller], None],
        on_connection: Callable[[Connection], None],
    ) -> FirstFree:
        """The listener of the remote API, at the first of `endpoints` that is free."""
        return FirstFree(
            Listener(
                endpoint.host,
                endpoint.port,
                self._credentials,
                router,
                self.hello,
                admit=admit,
                on_connection=on_connection,
                now=self._now,
            )
            for endpoint in endpoints(config, remembered_port)
        )


def endpoints(config: Config, remembered_port: int) -> tuple[Endpoint, ...]:
    """Where to listen, in this order: what was asked for and nothing else; or the default, or the free port that was
    chosen before, and any free one if that is taken."""
    asked = config.listen
    if asked is not None and asked.port:
        return (asked,)
    host = asked.host if asked is not None else DEFAULT_HOST
    first = remembered_port or (DEFAULT_PORT if asked is None else 0)
    return tuple(dict.fromkeys((Endpoint(host, first), Endpoint(host, 0))))


class FirstFree:
    """Listens like a `Listener`, with the first of several whose address can be had."""

    def __init__(self, listeners: Iterable[Listener]) -> None:
        self._listeners = tuple(listeners)

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Starts with the bound port. Raises `FailedPrecondition` if none can be had."""
        *others, last = self._listeners
        for listener in others:
            try:
                await listener.run(task_status=task_status)
            except FailedPrecondition as busy:  # of the binding: whatever comes later is in a group
                log.warning("%s: a free port is taken instead", busy)
        await last.run(task_status=task_status)

    @property
    def connections(self) -> frozenset[Connection]:
        """See `Listener`."""
        return frozenset[Connection]().union(*(listener.connections for listener in self._listeners))
