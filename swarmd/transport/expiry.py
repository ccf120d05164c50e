"""No connection outlives the certificate that its peer showed. A node renews long before: this is the net below. One
whose peer showed none ends after a time that is enough for all that such a peer may ask.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Protocol

import trio

from swarmd.wire.identity import Caller

log = logging.getLogger(__name__)

LOOK_AT_CLOCK_S: Final = 3600.0
"""The wall clock is looked at this often: a machine that slept or whose clock was set is not late by more."""

ANONYMOUS_S_MAX: Final = 150.0
"""A whole joining, which asks for two minutes how its request was decided, fits in. Who waits longer dials again."""


class Ending(Protocol):
    """What is needed of a `Connection`."""

    peer: Caller
    closed: trio.Event

    def abort(self, reason: str) -> None: ...


async def end_with_certificate(connection: Ending, now: Callable[[], float]) -> None:
    """Close the connection once its peer's certificate has expired by `now` (epoch seconds). Returns when it is closed.

    A peer without a certificate has no such end.
    """
    identity = connection.peer.identity
    if identity is None or math.isinf(identity.not_after):
        return
    while (left_s := identity.not_after - now()) > 0:
        with trio.move_on_after(min(left_s, LOOK_AT_CLOCK_S)):
            await connection.closed.wait()
            return
    until = datetime.fromtimestamp(int(identity.not_after), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    reason = f"the certificate of node {identity.node_id} expired at {until}, by this machine's clock"
    log.warning("closing the connection at %s: %s", connection.peer.address, reason)
    connection.abort(reason)


async def end_anonymous(connection: Ending, after_s: float = ANONYMOUS_S_MAX) -> None:
    """Close the connection after `after_s` if its peer showed no certificate. Returns when it is closed."""
    if connection.peer.identity is not None or connection.peer.is_local:
        return
    with trio.move_on_after(after_s):
        await connection.closed.wait()
        return
    reason = f"a connection without a certificate lasts {after_s:.0f} s; dial again"
    log.debug("closing the connection at %s: %s", connection.peer.address, reason)
    connection.abort(reason)
