"""Calls that only the leader can serve, asked of any manager: one hop, with the caller's identity."""

from __future__ import annotations

import logging
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

import msgspec
import trio

from swarmd.errors import OutcomeUnknown, SwarmError, Unavailable
from swarmd.manager.raft_driver import RaftDriver
from swarmd.raft import Member
from swarmd.transport.connection import Call, Connection, UnaryHandler
from swarmd.wire.frames import Headers
from swarmd.wire.identity import Caller, ForwardedCaller
from swarmd.wire.methods import Method

log = logging.getLogger(__name__)

NO_LEADER_S_MAX: Final = 10.0
"""How long a call waits for a leader (foundations: No leader)."""
RETRY_S: Final = 0.1
CALL_S_MAX: Final = 15.0


class Dial(Protocol):
    """Opens a connection of class `control` to an address."""

    def __call__(self, address: str) -> AbstractAsyncContextManager[Connection]: ...


class LeaderLink:
    """One connection to whoever leads, dialed when first needed and kept."""

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self._connection: Connection | None = None
        self._member_id = 0
        self._lock = trio.Lock()
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the connection until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    async def to(self, leader: Member) -> Connection:
        """A connection to this member. Raises `Unavailable`."""
        async with self._lock:
            connection = self._connection
            if connection is None or connection.closed.is_set() or self._member_id != leader.member_id:
                connection = await self._open(leader)
                self._connection, self._member_id = connection, leader.member_id
            return connection

    async def _open(self, leader: Member) -> Connection:
        if self._nursery is None:
            raise Unavailable("this manager is not running")
        failure: SwarmError = Unavailable(f"the leader {leader.node_id} has no address")
        for address in leader.addresses:
            opened: list[Connection | SwarmError] = await self._nursery.start(self._hold, address)
            if isinstance(opened[0], Connection):
                return opened[0]
            failure = opened[0]
        raise Unavailable(f"the leader {leader.node_id} cannot be reached: {failure}")

    async def _hold(self, address: str, *, task_status: trio.TaskStatus[list[Connection | SwarmError]]) -> None:
        try:
            async with self._dial(address) as connection:
                task_status.started([connection])
                await connection.closed.wait()
        except SwarmError as error:
            task_status.started([error])


class LeaderProxy:
    """Wraps the handlers of LEADER_PROXY methods: served here when leading, else by the leader."""

    def __init__(self, driver: RaftDriver, link: LeaderLink) -> None:
        self._driver = driver
        self._link = link

    def wrap(self, method: Method[Any, Any], local: UnaryHandler) -> UnaryHandler:
        """A handler that finds the leader, waiting up to 10 s for one."""

        async def handle(call: Call, request: Any) -> Any:
            waited_since = trio.current_time()
            while True:
                try:
                    return await self._once(method, local, call, request)
                except OutcomeUnknown:
                    raise
                except Unavailable:
                    # A change without a key may have been made by a leader that then went away.
                    if call.caller.forwarder is not None or trio.current_time() - waited_since > NO_LEADER_S_MAX:
                        raise
                with trio.move_on_after(RETRY_S):
                    await self._driver.changed.wait()

        return handle

    async def _once(self, method: Method[Any, Any], local: UnaryHandler, call: Call, request: Any) -> Any:
        if self._driver.is_leading:
            return await local(call, request)
        if call.caller.forwarder is not None:
            raise Unavailable("this manager does not lead (any more)", hint="try again")
        leader = self._driver.configuration.member(self._driver.leader)
        if leader is None or self._driver.core.is_leader:
            raise Unavailable(
                self._driver.quorum_arithmetic(), hint="more than half of the managers must be online; see `node ls`"
            )
        connection = await self._link.to(leader)
        headers = forwarding(call.headers, call.caller)
        try:
            return await connection.call(method, request, timeout_s=_time_left(call), headers=headers)
        except OutcomeUnknown:
            raise
        except Unavailable as error:
            if method.mutates and not call.headers.key and connection.closed.is_set():
                raise OutcomeUnknown(
                    f"outcome unknown: the leader went away while it served the call ({error})",
                    hint="look before trying again",
                ) from error
            raise


def forwarding(headers: Headers, caller: Caller) -> Headers:
    """The headers for the leader: the caller as seen here; blank for one without a certificate, so that the call can
    never look like this manager's own."""
    identity = caller.identity
    forwarded = ForwardedCaller(is_local=caller.is_local, address=caller.address)
    if identity is not None:
        forwarded = ForwardedCaller(
            node_id=identity.node_id,
            role=identity.role,
            swarm_id=identity.swarm_id,
            is_local=caller.is_local,
            address=caller.address,
        )
    return msgspec.structs.replace(headers, forwarded=forwarded)


def _time_left(call: Call) -> float:
    return max(0.1, min(CALL_S_MAX, call.deadline - trio.current_time()))
