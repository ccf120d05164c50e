"""The leader renews its own certificate in memory: with an expired one it could not even dial itself."""

from __future__ import annotations

from typing import Any, TypeVar

import trio

from swarmd.errors import DeadlineExceeded
from swarmd.manager.ca_server import CAServer
from swarmd.transport.connection import Call
from swarmd.wire.frames import NO_HEADERS
from swarmd.wire.identity import Caller, Identity
from swarmd.wire.methods import CA_ISSUE, CA_ROOT, CA_STATUS, Method

Req = TypeVar("Req")
Resp = TypeVar("Resp")


class LocalCA:
    """What a node needs of a connection to a manager, without the connection. Valid while this manager leads."""

    def __init__(self, server: CAServer, identity: Identity) -> None:
        self._handlers: dict[str, Any] = {
            CA_ROOT.name: server.root,
            CA_ISSUE.name: server.issue,
            CA_STATUS.name: server.status,
        }
        self._caller = Caller(identity=identity, address="this node")

    async def call(self, method: Method[Req, Resp], request: Req, *, timeout_s: float = 5.0) -> Resp:
        """As `Connection.call`, for the CA's three methods."""
        call = Call(method, self._caller, NO_HEADERS, trio.current_time() + timeout_s)
        with trio.move_on_after(timeout_s):
            reply: Resp = await self._handlers[method.name](call, request)
            return reply
        raise DeadlineExceeded(f"{method.name} took longer than {timeout_s:g} s")
