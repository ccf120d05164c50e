"""The manager: opens its log (or joins to get one), and nests all that a manager runs. Knows no flags and no agent."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import trio

from swarmd import __version__
from swarmd.errors import PermissionDenied, SwarmError, Unauthenticated, Unavailable
from swarmd.manager import assembly, collector
from swarmd.manager.assembly import Opened
from swarmd.manager.audit import AuditLog
from swarmd.manager.audit.door import checking
from swarmd.manager.autolock import Autolock, Disk, not_locked
from swarmd.manager.control_api import LocalNode
from swarmd.manager.disk_guard import DiskGuard
from swarmd.manager.disk_health import DiskHealth
from swarmd.manager.disk_reports import DiskReports
from swarmd.manager.disk_return import until_usable
from swarmd.manager.dispatcher import LocalLink
from swarmd.manager.join_limits import JOINS_PER_S, JoinRate
from swarmd.manager.local_ca import LocalCA
from swarmd.manager.own_membership import OwnMembership, warn_of_other_ticks
from swarmd.manager.parts import Parts
from swarmd.manager.redialing import Redialing
from swarmd.manager.standing import Log, StateStandings
from swarmd.raft import Settings
from swarmd.storage.audit_store import open_or_begin
from swarmd.storage.log_store import LogIdentity, LogWriter
from swarmd.storage.sealing import Sealer
from swarmd.transport.connection import Call, Connection, Router
from swarmd.transport.credentials import Credentials
from swarmd.wire import ca, methods
from swarmd.wire.authorise import authorise, present_role
from swarmd.wire.control import StatusReply, StatusRequest
from swarmd.wire.identity import Caller
from swarmd.wire.methods import Method
from swarmd.wire.peer import HealthReply, HealthRequest, JoinReply, JoinRequest

log = logging.getLogger(__name__)

HAND_OVER_S_MAX: Final = 3.0
_CONTROL: Final[tuple[Method[Any, Any], ...]] = tuple(
    m for m in methods.METHODS.values() if m.socket and m not in (methods.STATUS, methods.HEALTH)
)


class Dial(Protocol):
    """Opens a connection of a class (`control`, `raft`, `bulk`) to an address, showing this node's certificate."""

    def __call__(
        self, address: str, class_: str = "control", *, router: Router | None = None
    ) -> AbstractAsyncContextManager[Connection]: ...


class RemoteDoor(Protocol):
    """The listener of the remote API; see `transport.listener.Listener`."""

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None: ...

    @property
    def connections(self) -> frozenset[Connection]: ...


class MakeListener(Protocol):
    """Makes the listener of the remote API."""

    def __call__(
        self, router: Router, *, admit: Callable[[Caller], None], on_connection: Callable[[Connection], None]
    ) -> RemoteDoor: ...


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What a manager is given by the node it runs on."""

    directory: Path
    """`STATE/raft`."""
    sealer_of: Callable[[LogIdentity], Sealer]
    credentials: Credentials
    listener_of: MakeListener
    dial: Dial
    advertised: Callable[[int], Awaitable[tuple[str, ...]]]
    """Bound port -> the addresses to announce. May ask the name service."""
    known_addresses: Callable[[], Sequence[str]]
    """Where other managers may be found, to join through them."""
    session: Callable[[], str]
    """How this node's own agent stands."""
    settings: Settings
    disk_keys: Disk
    renew: Callable[[], None]
    """Asks for another certificate, with another key."""
    disk: DiskHealth
    """Of the disk that `directory` is on; it outlives this manager."""
    features: tuple[str, ...]
    now: Callable[[], float]
    rng: random.Random
    joins_per_s: float = JOINS_PER_S
    """New nodes that are let in while this manager leads; infinity: no limit."""


class Manager:
    """One life as a manager, from promotion (or start) to demotion (or stop).

    `router` serves both doors, from the start on; `parts` is there once the log is open.
    """

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._identity = around.credentials.identity
        self.standings = StateStandings(self._identity.swarm_id, self._log)
        self.audit = AuditLog(now=around.now)
        self.router = Router(checking(self.audit, self._authorise))
        self._listener = around.listener_of(self.router, admit=self._admit, on_connection=self._accepted)
        self.addresses: tuple[str, ...] = ()
        self.parts: Parts | None = None
        self.log_is_open = trio.Event()
        self.port = 0
        """Where it listens, once it does."""
        """Set once this node takes part: from then on no fault of the manager ends the daemon."""
        self._joined: JoinReply | None = None
        self._redialing: Redialing | None = None
        self._disks = DiskReports(around.disk, self._identity.node_id, around.known_addresses, self._dial)
        self.router.add(methods.RAFT_DISK, self._disks.receive)
        self._serve_before_the_log()

    # -- what the node asks ------------------------------------------------------------------------------------

    def local_link(self) -> LocalLink | None:
        """The dispatcher in memory while this manager leads."""
        dispatcher = self.parts.dispatcher if self.parts is not None else None
        if dispatcher is None:
            return None
        address = self.addresses[0] if self.addresses else ""
        return LocalLink(dispatcher, self._identity.node_id, address, self._around.credentials.leaf)

    def local_ca(self) -> LocalCA | None:
        """The CA in memory while this manager leads."""
        if self.parts is None or not self.parts.driver.is_leading:
            return None
        return LocalCA(self.parts.ca_server, self._identity)

    async def until_links_moved(self) -> None:
        """Return once the links to the other managers show the certificate that this node has now."""
        if self._redialing is not None:
            await self._redialing.until_moved()

    async def hand_over(self) -> None:
        """Give the lead away before stopping, if there is anybody to give it to. Takes at most 3 s."""
        if self.parts is None or not self.parts.driver.core.is_leader:
            return
        with trio.move_on_after(HAND_OVER_S_MAX):
            try:
                await self.parts.members.transfer_leadership()
            except SwarmError as error:
                log.info("nobody to hand the lead to: %s", error)

    # -- life --------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Be a manager until cancelled. Started once it listens; it may have to join the other managers still.

        Raises what makes it impossible: an address in use, a refused join, `StorageDamaged`, `StorageFailed`, and
        `MemberReplaced` if this node takes part under another member id now.
        """
        async with trio.open_nursery() as nursery:
            self.port = await nursery.start(self._listener.run)
            self.addresses = await self._around.advertised(self.port)
            log.info("listening on port %d, announced as %s", self.port, ", ".join(self.addresses))
            task_status.started()
            nursery.start_soon(self._disks.run)
            await until_usable(self._around.disk, self._around.directory)
            opened = await self._open_log()
            await trio.to_thread.run_sync(_settle, opened)
            self._around.disk.note_usable()
            writer = LogWriter(opened.store)
            writer.start()
            try:
                await self._run_parts(opened, writer)
            finally:
                self.parts = None
                await writer.aclose()

    async def _open_log(self) -> Opened:
        directory, sealer_of = self._around.directory, self._around.sealer_of
        opened = await trio.to_thread.run_sync(assembly.open_existing, directory, sealer_of)
        if opened is not None and not assembly.is_empty(opened):
            return opened
        # Also for a log that is still empty: a joiner that stopped before the leader reached it knows nobody.
        known = opened.identity if opened is not None else None
        incarnation = known.incarnation if known is not None else self._around.rng.randbytes(16)
        try:
            reply = await assembly.join(
                self._around.known_addresses,
                self._join_request(incarnation, known.member_id if known is not None else 0),
                dial=self._dial,
                rng=self._around.rng,
            )
        except BaseException:
            if opened is not None:
                opened.store.close()  # the next try must find it free
            raise
        self._joined = reply
        if opened is not None and opened.identity.member_id == reply.member_id:
            return opened
        return await trio.to_thread.run_sync(self._start_log, opened, reply.member_id, incarnation)

    def _start_log(self, old: Opened | None, member_id: int, incarnation: bytes) -> Opened:
        """The log of a new member, in place of an empty one of an older member. Blocking."""
        directory = self._around.directory
        identity = LogIdentity(
            swarm_id=self._identity.swarm_id,
            node_id=self._identity.node_id,
            member_id=member_id,
            incarnation=incarnation,
        )
        if old is not None:
            assembly.discard(directory, old)
        return assembly.create(directory, identity, self._around.sealer_of(identity))

    def _join_request(self, incarnation: bytes, member_id: int = 0) -> JoinRequest:
        return JoinRequest(
            addresses=self.addresses, incarnation=incarnation, member_id=member_id, features=self._around.features
        )

    async def _run_parts(self, opened: Opened, writer: LogWriter) -> None:
        core, state = await trio.to_thread.run_sync(assembly.rebuild, opened, self._around.settings, self._around.rng)
        trail = partial(open_or_begin, self._around.directory / "audit.db", opened.store.sealer)
        await self.audit.open(trail, state)
        self.parts = parts = Parts(
            core,
            state,
            opened=opened,
            writer=writer,
            identity=self._identity,
            dial=self._dial,
            router=self.router,
            hint=assembly.configuration_of(self._joined),
            features=self._around.features,
            disks=self._disks,
            local_root=lambda: self._around.credentials.root,
            foreign_context=self._around.credentials.foreign_context,
            connections=lambda: self._listener.connections,
            standings=self.standings,
            audit=self.audit,
            join_rate=JoinRate(self._around.joins_per_s),
            now=self._around.now,
            rng=self._around.rng,
        )
        self.log_is_open.set()
        collector.tune()
        self._stop_serving_before_the_log()
        parts.serve(self.router, local=_Local(self, self._around))
        autolock = self._autolock(parts)
        self.router.add(methods.CLUSTER_UNLOCK, not_locked)
        self.router.add(methods.CA_UNLOCK_KEY, parts.proxy.wrap(methods.CA_UNLOCK_KEY, autolock.tell))
        async with trio.open_nursery() as nursery:
            await parts.start(nursery)
            for connection in self._listener.connections:
                parts.peers.accepted(connection)  # the leader dials as soon as it lets us in
            membership = OwnMembership(
                parts,
                self._join_request(opened.identity.incarnation, opened.identity.member_id),
                own_node_id=self._identity.node_id,
                known_addresses=self._around.known_addresses,
                dial=self._dial,
            )
            nursery.start_soon(membership.run)
            guard = DiskGuard(
                parts.driver,
                self._around.disk,
                self._around.directory,
                own_node_id=self._identity.node_id,
                may_lead=lambda node_id: (report := self._disks.of(node_id)) is None or report.may_lead,
            )
            nursery.start_soon(guard.run)
            nursery.start_soon(autolock.run)
            self._redialing = Redialing(
                self._around.credentials, parts.peers, parts.leader_link, lambda: parts.driver.state
            )
            nursery.start_soon(self._redialing.run)
            nursery.start_soon(warn_of_other_ticks, parts.driver, self._around.settings)

    def _autolock(self, parts: Parts) -> Autolock:
        return Autolock(
            lambda: parts.driver.state,
            self._around.disk_keys,
            linearize=parts.driver.read_index,
            rotate_data_key=parts.key_rotation.rotate_data_key,
            renew=self._around.renew,
        )

    # -- doors before the log is open --------------------------------------------------------------------------

    def _serve_before_the_log(self) -> None:
        self.router.add(methods.HEALTH, self._health)
        self.router.add(methods.CA_ROOT, self._root)
        self.router.add(methods.STATUS, self._status)
        for method in _CONTROL:
            self.router.add(method, self._not_yet)

    def _stop_serving_before_the_log(self) -> None:
        self.router.remove(methods.CA_ROOT)
        self.router.remove(methods.STATUS)
        for method in _CONTROL:
            self.router.remove(method)

    async def _status(self, call: Call, request: StatusRequest) -> StatusReply:
        return StatusReply(
            node_id=self._identity.node_id,
            swarm_id=self._identity.swarm_id,
            version=__version__,
            is_manager=True,
            remote_addresses=self.addresses,
            session=self._around.session(),
        )

    async def _health(self, call: Call, request: HealthRequest) -> HealthReply:
        facts = self.parts.facts if self.parts is not None else None
        return HealthReply(
            node_id=self._identity.node_id,
            is_member=facts is not None,
            leader_node_id=facts.leader_node_id if facts is not None else "",
            leader_addresses=facts.leader_addresses if facts is not None else (),
        )

    async def _root(self, call: Call, request: ca.RootRequest) -> ca.RootReply:
        return ca.RootReply(certificate=self._around.credentials.root)

    async def _not_yet(self, call: Call, request: Any, *stream: Any) -> Any:
        if self._around.disk.failure is not None:
            raise Unavailable(
                f"this manager takes no part while its disk refuses: {self._around.disk.failure}",
                hint="make room or mend the disk, and it comes back by itself; ask another manager until then",
            )
        raise Unavailable(
            "this manager has not joined the other managers yet",
            hint="its log says what it waits for; ask another manager",
        )

    def _authorise(self, method: Method[Any, Any], caller: Caller) -> None:
        authorise(method, caller, self.standings)

    def _admit(self, peer: Caller) -> None:
        """Refuse who may call nothing at the door, before he says anything."""
        if peer.identity is not None:
            try:
                present_role(peer.identity, self.standings)
            except PermissionDenied as refusal:
                self.audit.note("connect", peer.actor, peer.address, refusal.message)
                raise

    def _accepted(self, connection: Connection) -> None:
        if self.parts is not None:
            self.parts.evictions.judge(connection)
            self.parts.peers.accepted(connection)

    @asynccontextmanager
    async def _dial(
        self, address: str, class_: str = "control", *, router: Router | None = None
    ) -> AsyncIterator[Connection]:
        """Also a manager that is dialed must be one that this manager's state does not refuse."""
        async with self._around.dial(address, class_, router=router) as connection:
            if connection.peer.identity is not None:
                try:
                    present_role(connection.peer.identity, self.standings)
                except PermissionDenied as refusal:
                    raise Unauthenticated(f"{address}: {refusal.message}") from refusal
            yield connection

    def _log(self) -> Log | None:
        return self.parts.driver if self.parts is not None else None


def _settle(opened: Opened) -> None:
    """Only a fresh open that takes writes says that a disk is well. Blocking. Raises `StorageFailed`."""
    try:
        opened.store.settle()
    except BaseException:
        assembly.close(opened)
        raise


class _Local(LocalNode):
    """This node, for `status`."""

    def __init__(self, manager: Manager, around: Surroundings) -> None:
        self._manager = manager
        self._around = around

    @property
    def node_id(self) -> str:
        return self._around.credentials.identity.node_id

    @property
    def swarm_id(self) -> str:
        return self._around.credentials.identity.swarm_id

    @property
    def remote_addresses(self) -> tuple[str, ...]:
        return self._manager.addresses

    @property
    def session(self) -> str:
        return self._around.session()
