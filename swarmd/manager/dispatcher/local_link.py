"""The leader's own agent reaches the dispatcher in memory, as its certificate's node, never as the socket's user."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from swarmd.manager.dispatcher.dispatcher import Dispatcher
from swarmd.manager.dispatcher.streams import AssignmentStream, SessionStream
from swarmd.wire import dispatch


class LocalLink:
    """Keeps the agent's `DispatcherLink` protocol by its shape. Ends with `Unavailable` when the reign ends.

    Args:
        address: where this node says it can be reached, instead of an observed address.
        certificate: this node's own leaf (DER), which it would show if it dialed.
    """

    def __init__(self, dispatcher: Dispatcher, node_id: str, address: str, certificate: bytes = b"") -> None:
        self._dispatcher = dispatcher
        self._node_id = node_id
        self._address = address
        self._certificate = certificate

    def session(self, request: dispatch.SessionRequest) -> AbstractAsyncContextManager[SessionStream]:
        """See `Dispatcher.session`."""
        return self._dispatcher.session(self._node_id, self._address, request, certificate=self._certificate)

    async def heartbeat(self, request: dispatch.HeartbeatRequest) -> dispatch.HeartbeatReply:
        """See `Dispatcher.heartbeat`."""
        return await self._dispatcher.heartbeat(self._node_id, request)

    def assignments(self, request: dispatch.AssignmentsRequest) -> AbstractAsyncContextManager[AssignmentStream]:
        """See `Dispatcher.assignments`."""
        return self._dispatcher.assignments(self._node_id, request)

    async def update_status(self, request: dispatch.UpdateStatusRequest) -> dispatch.UpdateStatusReply:
        """See `Dispatcher.update_status`."""
        return await self._dispatcher.update_status(self._node_id, request)

    async def goodbye(self, request: dispatch.GoodbyeRequest) -> None:
        """See `Dispatcher.goodbye`."""
        await self._dispatcher.goodbye(self._node_id, request)
