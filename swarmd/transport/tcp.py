"""What the kernel is told about our TCP sockets, dialed and accepted alike."""

from __future__ import annotations

import socket
from typing import Final

import trio

UNACKNOWLEDGED_S_MAX: Final = 5.0
"""Data that the peer's kernel has not acknowledged for so long ends the connection. Without a limit the kernel repeats
it for a quarter of an hour, each time after twice the pause: once a cut is healed, the connection stays silent for as
long again as the cut lasted. A peer that is slow, or stopped, still acknowledges, until its buffer is full."""


def limit_unacknowledged(stream: trio.SocketStream) -> None:
    """End this connection once what was sent has gone unacknowledged for 5 s."""
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(UNACKNOWLEDGED_S_MAX * 1000))
