"""How an agent reaches the dispatcher: over the network, or in memory when this node leads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from swarmd.wire import dispatch


class DispatcherLink(Protocol):
    """The dispatcher's calls. Errors are `SwarmError`s; `Unavailable` ends the session and the agent reconnects."""

    def session(
        self, request: dispatch.SessionRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[dispatch.SessionMessage]]: ...
    async def heartbeat(self, request: dispatch.HeartbeatRequest) -> dispatch.HeartbeatReply: ...
    def assignments(
        self, request: dispatch.AssignmentsRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[dispatch.AssignmentsMessage]]: ...
    async def update_status(self, request: dispatch.UpdateStatusRequest) -> dispatch.UpdateStatusReply: ...
    async def goodbye(self, request: dispatch.GoodbyeRequest) -> None: ...


class LinkProvider(Protocol):
    """Finds the leader's dispatcher."""

    def connect(self) -> AbstractAsyncContextManager[DispatcherLink]:
        """A link to whoever leads now, in memory if this node does. Raises `Unavailable`; the agent backs off."""

    def learned_managers(self, managers: tuple[dispatch.ManagerPeer, ...]) -> None:
        """The dispatcher told where the managers are. An empty list changes nothing."""
