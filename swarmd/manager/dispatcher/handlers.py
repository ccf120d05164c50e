"""The dispatcher's calls as the router serves them: the node id comes from the certificate, never from a message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from swarmd.errors import Unauthenticated, Unavailable
from swarmd.manager.dispatcher.dispatcher import Dispatcher
from swarmd.transport.connection import Call, Stream, StreamHandler, UnaryHandler
from swarmd.wire import dispatch
from swarmd.wire.dispatch import ManagerPeer
from swarmd.wire.methods import ASSIGNMENTS, GOODBYE, HEARTBEAT, SESSION, UPDATE_STATUS, Method
from swarmd.wire.peer import Nothing


def handlers(
    dispatcher_of: Callable[[], Dispatcher | None],
    *,
    managers: Callable[[], tuple[ManagerPeer, ...]] = tuple,
) -> dict[Method[Any, Any], UnaryHandler | StreamHandler]:
    """Handlers of the five methods; `dispatcher_of` gives the present reign's dispatcher, None while another leads.

    Then they raise `Unavailable` naming the leader that `managers` tells.
    """
    calls = _Calls(dispatcher_of, managers)
    return {
        SESSION: calls.session,
        HEARTBEAT: calls.heartbeat,
        ASSIGNMENTS: calls.assignments,
        UPDATE_STATUS: calls.update_status,
        GOODBYE: calls.goodbye,
    }


class _Calls:
    def __init__(
        self, dispatcher_of: Callable[[], Dispatcher | None], managers: Callable[[], tuple[ManagerPeer, ...]]
    ) -> None:
        self._dispatcher_of = dispatcher_of
        self._managers = managers

    async def session(
        self, call: Call, request: dispatch.SessionRequest, stream: Stream[dispatch.SessionMessage, Any]
    ) -> None:
        caller = call.caller
        node_id = _node_id(call)
        registering = self._dispatcher().session(node_id, caller.address, request, certificate=caller.certificate)
        async with registering as messages:
            async for message in messages:
                await stream.send(message)

    async def heartbeat(self, call: Call, request: dispatch.HeartbeatRequest) -> dispatch.HeartbeatReply:
        return await self._dispatcher().heartbeat(_node_id(call), request)

    async def assignments(
        self, call: Call, request: dispatch.AssignmentsRequest, stream: Stream[dispatch.AssignmentsMessage, Any]
    ) -> None:
        async with self._dispatcher().assignments(_node_id(call), request) as messages:
            async for message in messages:
                await stream.send(message)

    async def update_status(self, call: Call, request: dispatch.UpdateStatusRequest) -> dispatch.UpdateStatusReply:
        return await self._dispatcher().update_status(_node_id(call), request)

    async def goodbye(self, call: Call, request: dispatch.GoodbyeRequest) -> Nothing:
        await self._dispatcher().goodbye(_node_id(call), request)
        return Nothing()

    def _dispatcher(self) -> Dispatcher:
        return self._dispatcher_of() or _redirect(self._managers())


def _redirect(managers: tuple[ManagerPeer, ...]) -> NoReturn:
    leader = next((manager for manager in managers if manager.is_leader), None)
    if leader is None:
        raise Unavailable("this manager does not lead and knows of no leader", hint="try again, or another manager")
    raise Unavailable(
        "this manager does not lead",
        object=f"manager {leader.node_id}",
        hint=f"the leader is at {' or '.join(leader.addresses)}",
    )


def _node_id(call: Call) -> str:
    identity = call.caller.identity
    if identity is None:
        raise Unauthenticated("only a node with a certificate has a session")
    return identity.node_id
