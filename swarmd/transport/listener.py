"""Accepting connections: TCP with TLS and the control socket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import trio

from swarmd.transport.connection import Connection, Router
from swarmd.transport.credentials import Credentials
from swarmd.wire.frames import Hello
from swarmd.wire.identity import Identity


class Listener:
    """Serves `router` on TCP. Limits: handshake 10 s, 64 handshakes at once, connection cap a setting above 10,000.

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
    ) -> None:
        raise NotImplementedError

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Starts with the bound port. Raises `FailedPrecondition` if the address is in use."""
        raise NotImplementedError

    def close_peers(self, node_id: str) -> None:
        """End every connection of this node (it was removed)."""
        raise NotImplementedError


class ControlSocket:
    """Serves `router` on a Unix socket, mode 0600 in a directory made 0700 if missing.

    A stale socket file is replaced; one that somebody answers on is refused (`FailedPrecondition`). The file is
    removed on the way out.
    """

    def __init__(self, path: Path, identity: Identity, router: Router, hello: Callable[[], Hello]) -> None:
        raise NotImplementedError

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        raise NotImplementedError
