"""The dispatcher's calls over a connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from swarmd.transport.connection import Connection
from swarmd.wire import dispatch, methods

UPDATE_STATUS_TIMEOUT_S: Final = 10.0
"""The answer comes once the batch is committed."""


class NetworkLink:
    """`DispatcherLink` over `connection`, which whoever made it closes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def session(self, request: dispatch.SessionRequest) -> AsyncIterator[AsyncIterator[dispatch.SessionMessage]]:
        async with self._connection.open(methods.SESSION, request) as stream:
            yield aiter(stream)

    async def heartbeat(self, request: dispatch.HeartbeatRequest) -> dispatch.HeartbeatReply:
        return await self._connection.call(methods.HEARTBEAT, request)

    @asynccontextmanager
    async def assignments(
        self, request: dispatch.AssignmentsRequest
    ) -> AsyncIterator[AsyncIterator[dispatch.AssignmentsMessage]]:
        async with self._connection.open(methods.ASSIGNMENTS, request) as stream:
            yield aiter(stream)

    async def update_status(self, request: dispatch.UpdateStatusRequest) -> dispatch.UpdateStatusReply:
        return await self._connection.call(methods.UPDATE_STATUS, request, timeout_s=UPDATE_STATUS_TIMEOUT_S)

    async def goodbye(self, request: dispatch.GoodbyeRequest) -> None:
        await self._connection.call(methods.GOODBYE, request)
