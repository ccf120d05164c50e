"""Calls that only the leader can serve, asked of any manager: one hop, with the caller's identity."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol, TypeVar

import msgspec
import trio

from swarmd.errors import DeadlineExceeded, OutcomeUnknown, SwarmError, Unavailable
from swarmd.manager.raft_driver import RaftDriver
from swarmd.raft import Member
from swarmd.transport.connection import Call, Connection, UnaryHandler
from swarmd.wire.authorise import forwarded_header
from swarmd.wire.methods import Method

log = logging.getLogger(__name__)

T = TypeVar("T")

NO_LEADER_S_MAX: Final = 10.0
"""How long a call waits for a leader (foundations: No leader)."""
RETRY_S: Final = 0.1
CALL_S_MAX: Final = 15.0
ANSWER_MARGIN_S: Final = 0.1
"""A call passed on is given up so long before the caller's deadline, so that "outcome unknown" reaches the caller."""
DIAL_S_MAX: Final = 3.0
"""For one address of a leader: longer than any living one takes, and no longer than the next election."""
FAILURE_REMEMBERED_S: Final = 1.0
"""Calls that wait behind a dial that failed share its answer, instead of each dialing a dead leader in turn."""


class Dial(Protocol):
    """Opens a connection of class `control` to an address."""

    def __call__(self, address: str) -> AbstractAsyncContextManager[Connection]: ...


def is_node(connection: Connection, node_id: str) -> bool:
    """Whether the peer's certificate is this node's: addresses are handed on, and two machines may share one."""
    identity = connection.peer.identity
    return identity is not None and identity.node_id == node_id


class _Lost(Unavailable):
    """The leader went away under a call with an idempotency key: it may be asked again, and may have happened."""


class LeaderLink:
    """Connections to those who lead or led, dialed when first needed and kept: one a member."""

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self._connections: dict[int, Connection] = {}
        self._dialing: dict[int, trio.Lock] = {}
        self._failures: dict[int, tuple[float, str]] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the connections until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None  # a call that is still served on the way out is told, and starts nothing

    async def to(self, leader: Member) -> Connection:
        """A connection to this member. Raises `Unavailable` after at most 3 s for each of its addresses."""
        connection = self._present(leader)
        if connection is not None:
            return connection
        async with self._dialing.setdefault(leader.member_id, trio.Lock()):
            connection = self._present(leader)
            if connection is not None:
                return connection
            failed_at, reason = self._failures.get(leader.member_id, (-math.inf, ""))
            if trio.current_time() - failed_at < FAILURE_REMEMBERED_S:
                raise Unavailable(reason)
            return await self._open(leader)

    def redial(self, node_id: str = "") -> None:
        """Use no present connection to this node (or to any) for further calls: a certificate has changed, ours or its
        own. Calls under way finish. Never waits."""
        for member_id, connection in tuple(self._connections.items()):
            if self._nursery is not None and (not node_id or is_node(connection, node_id)):
                del self._connections[member_id]
                self._nursery.start_soon(self._retire, connection)

    async def _retire(self, connection: Connection) -> None:
        with trio.move_on_after(CALL_S_MAX):
            await connection.closed.wait()
        await connection.aclose()

    def _present(self, leader: Member) -> Connection | None:
        connection = self._connections.get(leader.member_id)
        return connection if connection is not None and not connection.closed.is_set() else None

    async def _open(self, leader: Member) -> Connection:
        if self._nursery is None:
            raise Unavailable("this manager is not running")
        reasons = []
        for address in leader.addresses:
            opened: Connection | SwarmError = Unavailable("no answer")
            with trio.move_on_after(DIAL_S_MAX):
                opened = await self._nursery.start(self._hold, leader, address)
            if not isinstance(opened, SwarmError):
                return opened
            reasons.append(f"{address}: {opened}")
        reason = f"the leader {leader.node_id} cannot be reached ({'; '.join(reasons) or 'it has no address'})"
        self._failures[leader.member_id] = (trio.current_time(), reason)
        raise Unavailable(reason)

    async def _hold(
        self, leader: Member, address: str, *, task_status: trio.TaskStatus[Connection | SwarmError]
    ) -> None:
        try:
            async with self._dial(address) as connection:
                if not is_node(connection, leader.node_id):
                    raise Unavailable("another node answers there")
                self._connections[leader.member_id] = connection
                task_status.started(connection)
                await connection.closed.wait()
                if self._connections.get(leader.member_id) is connection:
                    del self._connections[leader.member_id]
        except SwarmError as error:
            task_status.started(error)


class LeaderProxy:
    """Wraps the handlers of LEADER_PROXY methods: served here when leading, else by the leader."""

    def __init__(self, driver: RaftDriver, link: LeaderLink) -> None:
        self._driver = driver
        self._link = link

    def wrap(self, method: Method[Any, Any], local: UnaryHandler) -> UnaryHandler:
        """A handler that finds the leader, waiting up to 10 s for one.

        It tries again only what surely did not happen, or what carries an idempotency key.
        """

        async def handle(call: Call, request: Any) -> Any:
            waited_since = trio.current_time()
            may_have_happened = False
            while True:
                try:
                    return await self._once(method, local, call, request)
                except OutcomeUnknown:
                    raise
                except Unavailable as error:
                    may_have_happened |= isinstance(error, _Lost)
                    if call.caller.forwarder is not None or trio.current_time() - waited_since >= NO_LEADER_S_MAX:
                        if may_have_happened:
                            raise _unknown(f"a leader was lost while it served the call; then: {error}") from error
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
                self._driver.quorum_arithmetic(),
                hint="more than half of the managers must be online; see `swarmctl raft status`",
            )
        connection = await self._while_it_leads(leader, lambda: self._link.to(leader), then=_another_leads(Unavailable))
        return await self._pass_on(leader, connection, method, call, request)

    async def _pass_on(
        self, leader: Member, connection: Connection, method: Method[Any, Any], call: Call, request: Any
    ) -> Any:
        headers = msgspec.structs.replace(call.headers, forwarded=forwarded_header(call.caller))

        def ask() -> Awaitable[Any]:
            return connection.call(method, request, timeout_s=_time_left(call), headers=headers)

        try:
            if method.mutates and not call.headers.key:
                # Nobody else may be asked, so whatever this one still says is worth waiting for.
                return await ask()
            return await self._while_it_leads(
                leader, ask, then=_another_leads(_Lost if method.mutates else Unavailable)
            )
        except (OutcomeUnknown, _Lost):
            raise
        except Unavailable as error:
            # The leader's own "unavailable" is definite. A connection that was lost under the call says nothing.
            if not method.mutates or not connection.closed.is_set():
                raise
            if call.headers.key:
                raise _Lost(error.message) from error
            raise _unknown(f"the leader went away while it served the call ({error})") from error
        except DeadlineExceeded as error:
            if method.mutates:
                raise _unknown(f"the leader did not answer in time ({error})") from error
            raise

    async def _while_it_leads(self, leader: Member, work: Callable[[], Awaitable[T]], *, then: Unavailable) -> T:
        """What `work` returns. Given up with `then` as soon as `leader` does not lead: it may be a machine without
        power, or frozen, and would keep its caller waiting for as long as a connection may be silent."""
        outcome: T | SwarmError = then
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_once_deposed, leader, nursery.cancel_scope)
            try:
                outcome = await work()
            except SwarmError as error:
                outcome = error
            nursery.cancel_scope.cancel()
        if isinstance(outcome, SwarmError):
            raise outcome
        return outcome

    async def _cancel_once_deposed(self, leader: Member, scope: trio.CancelScope) -> None:
        while self._driver.leader == leader.member_id:
            await self._driver.changed.wait()
        scope.cancel()


def _another_leads(kind: type[Unavailable]) -> Unavailable:
    return kind("another manager leads now", hint="try again")


def _unknown(reason: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"outcome unknown: {reason}",
        hint="look before trying again; a retry with the same idempotency key never acts twice",
    )


def _time_left(call: Call) -> float:
    return max(0.1, min(CALL_S_MAX, call.deadline - trio.current_time() - ANSWER_MARGIN_S))
