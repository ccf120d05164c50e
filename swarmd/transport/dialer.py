"""Opening connections."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from swarmd.transport.connection import Connection, Router
from swarmd.wire.frames import Hello


@asynccontextmanager
async def dial(
    address: str,
    context: ssl.SSLContext,
    hello: Hello,
    *,
    router: Router | None = None,
    server_name: str = "swarm-manager",
    timeout_s: float = 10.0,
) -> AsyncIterator[Connection]:
    """A connection to `host:port` (`[v6]:port` too), HELLOs exchanged. Raises `Unavailable`, or `Unauthenticated` when TLS refuses."""
    raise NotImplementedError
    yield


@asynccontextmanager
async def connect_socket(path: Path, hello: Hello) -> AsyncIterator[Connection]:
    """A connection to a control socket."""
    raise NotImplementedError
    yield
