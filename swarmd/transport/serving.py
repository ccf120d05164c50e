"""One accepted connection from its first byte to its end; nothing about it reaches its neighbours."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from swarmd.errors import SwarmError
from swarmd.transport.connection import Connection
from swarmd.transport.expiry import ANONYMOUS_S_MAX, end_anonymous, end_with_certificate
from swarmd.transport.link import LinkLost
from swarmd.wire.frames import HANDSHAKE_S_MAX

log = logging.getLogger(__name__)


class ServedConnections:
    """The greeted connections of a listener."""

    def __init__(
        self,
        on_connection: Callable[[Connection], None] | None = None,
        *,
        now: Callable[[], float] | None = None,
        anonymous_s_max: float = ANONYMOUS_S_MAX,
    ) -> None:
        """`now` (epoch seconds) ends each connection with its peer's certificate; one without a certificate ends after
        `anonymous_s_max`."""
        self._on_connection = on_connection
        self._now = now
        self._anonymous_s_max = anonymous_s_max
        self.current: set[Connection] = set()

    async def serve(
        self, stream: trio.abc.Stream, address: str, greet: Callable[[trio.Nursery], Awaitable[Connection]]
    ) -> None:
        """Let `greet` make a connection of `stream` within 10 s, and run it. Raises nothing of the peer's making."""
        try:
            async with trio.open_nursery() as nursery:
                connection = await _within_limit(greet, nursery, address)
                if connection is not None:
                    if self._now is not None:
                        nursery.start_soon(end_with_certificate, connection, self._now)
                    nursery.start_soon(end_anonymous, connection, self._anonymous_s_max)
                    await self._run(connection)
                nursery.cancel_scope.cancel()
        except Exception:
            log.exception("serving %s failed because of a defect", address)
        finally:
            await trio.aclose_forcefully(stream)

    async def _run(self, connection: Connection) -> None:
        self.current.add(connection)
        try:
            if self._on_connection is not None:
                self._on_connection(connection)
            await connection.run()
        finally:
            self.current.discard(connection)


async def _within_limit(
    greet: Callable[[trio.Nursery], Awaitable[Connection]], nursery: trio.Nursery, address: str
) -> Connection | None:
    with trio.move_on_after(HANDSHAKE_S_MAX) as limit:
        try:
            return await greet(nursery)
        except (SwarmError, LinkLost, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            log.debug("%s was not let in: %s", address, error)
    if limit.cancelled_caught:
        log.debug("%s did not finish its handshake within %g s", address, HANDSHAKE_S_MAX)
    return None
