"""The parts of a manager whose log is open: built here, wired to each other here, started in order."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Protocol

import trio

from swarmd.errors import SwarmError, Unavailable
from swarmd.manager.assembly import Opened
from swarmd.manager.audit import AuditLog
from swarmd.manager.audit.door import AuditDoor, noting_refusals
from swarmd.manager.ca_server import CAServer
from swarmd.manager.control_api import ControlApi, LocalNode
from swarmd.manager.digests.board import DigestBoard
from swarmd.manager.digests.reporter import DigestReporter
from swarmd.manager.digests.watch import DigestWatch
from swarmd.manager.disk_reports import DiskReports
from swarmd.manager.disk_watch import DiskWatch
from swarmd.manager.dispatcher import Dispatcher
from swarmd.manager.dispatcher import handlers as dispatcher_handlers
from swarmd.manager.drained_leader import DrainedLeader
from swarmd.manager.evictions import Evictions
from swarmd.manager.external_ca import ExternalSigners, MakeContext
from swarmd.manager.feature_level import FeatureLevelLoop
from swarmd.manager.join_limits import JoinRate
from swarmd.manager.key_rotation import KeyRotation
from swarmd.manager.loops import (
    AllocatorLoop,
    EnforcerLoop,
    LostNodesLoop,
    OrchestratorLoop,
    PayloadRotationLoop,
    ReaperLoop,
    RoleManagerLoop,
    RootRotationLoop,
    SchedulerLoop,
    SignerLoop,
)
from swarmd.manager.members import Members
from swarmd.manager.peers import RAFT_CLASS, Peers
from swarmd.manager.proxy import LeaderLink, LeaderProxy, is_node
from swarmd.manager.raft_door import RaftDoor
from swarmd.manager.raft_driver import RaftDriver
from swarmd.manager.raft_facts import RaftFacts
from swarmd.manager.read_only import ReadOnly
from swarmd.manager.reign import Leadership, MakeComponent
from swarmd.manager.snapshots import Snapshots
from swarmd.manager.update import ReplicatedStore
from swarmd.model import RaftConfig
from swarmd.raft import Configuration, Message, RaftCore, SnapshotMeta
from swarmd.state.store import State
from swarmd.storage.log_store import LogWriter
from swarmd.transport.connection import Connection, Router
from swarmd.wire import methods
from swarmd.wire.authorise import Standings
from swarmd.wire.identity import Identity
from swarmd.wire.methods import Method, Serves
from swarmd.wire.peer import JoinRequest

log = logging.getLogger(__name__)

DEFAULTS = RaftConfig()
REFUSALS_NOTED = frozenset(
    method
    for method in methods.METHODS.values()
    if method.mutates or method in (methods.CA_ISSUE, methods.CLUSTER_UNLOCK, methods.CA_UNLOCK_KEY)
)
"""Methods whose own refusals (a wrong token, join code or unlock key) are remembered, where they are decided."""


class Dial(Protocol):
    """Opens a connection of a class (`control`, `raft`, `bulk`) to an address."""

    def __call__(
        self, address: str, class_: str = "control", *, router: Router | None = None
    ) -> AbstractAsyncContextManager[Connection]: ...


class Parts:
    """A running manager's insides, for those who must reach one of them."""

    def __init__(
        self,
        core: RaftCore,
        state: State,
        *,
        opened: Opened,
        writer: LogWriter,
        identity: Identity,
        dial: Dial,
        router: Router,
        hint: Configuration,
        features: tuple[str, ...],
        disks: DiskReports,
        local_root: Callable[[], bytes],
        foreign_context: MakeContext,
        connections: Callable[[], frozenset[Connection]],
        standings: Standings,
        audit: AuditLog,
        join_rate: JoinRate,
        now: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._identity = identity
        self.audit = audit
        self._dial = dial
        self._hint = hint
        self._features = features
        self._now = now
        self._rng = rng
        self.peers = Peers(
            core.member_id,
            lambda address: dial(address, RAFT_CLASS, router=router),
            rng,
            on_unreachable=lambda member_id: self.driver.peer_unreachable(member_id),
        )
        self.snapshots = Snapshots(
            opened.snapshots,
            newest=opened.stored.snapshot,
            interval=lambda: self._raft_config().snapshot_interval,
            dial=self._dial_member,
            on_saved=self._snapshot_saved,
            on_sent=lambda member_id, delivered: self.driver.snapshot_sent(member_id, delivered=delivered),
            on_received=self._snapshot_received,
        )
        self.key_rotation = KeyRotation(opened.store.sealer, writer, self._reseal_files, node_id=identity.node_id)
        self.driver = RaftDriver(core, state, writer, self.peers, self.snapshots)
        self.peers.follow(core.configuration if core.configuration.members else hint)
        self.digest_board = DigestBoard(self.driver, self.driver.digests, on_divergence=self._keep_diverging_state)
        self.facts = RaftFacts(self.driver, self.peers, self.digest_board, disks.of)
        self.read_only = ReadOnly(self.driver, disks.of)
        self.store = ReplicatedStore(self.driver, member_id=core.member_id, boot_id=rng.randbytes(16), now=now, rng=rng)
        self.members = Members(self.driver, identity.node_id, lambda address: dial(address, "control"), rng)
        self.leader_link = LeaderLink(lambda address: dial(address, "control"))
        self.proxy = LeaderProxy(self.driver, self.leader_link)
        self.digest_reporter = DigestReporter(
            self.driver, self.driver.digests, self.leader_link.to, heard=self.digest_board.heard
        )
        self._removals_for_divergence: dict[str, list[float]] = {}
        self.ca_server = CAServer(self.store, local_root=local_root, join_rate=join_rate)
        self.signers = ExternalSigners(foreign_context)
        self.leadership = Leadership(self.driver, self._components_of_a_reign, ended=self._reign_ended)
        self.evictions = Evictions(
            lambda: self.driver.state, standings, connections, now=now, on_revoked=self._tell_sessions
        )
        self.dispatcher: Dispatcher | None = None
        """The present reign's, while this manager leads."""

    # -- wiring ------------------------------------------------------------------------------------------------

    def serve(self, router: Router, *, local: LocalNode) -> None:
        """Add every manager method to the doors."""
        door = RaftDoor(self.driver, self.snapshots, lambda: self._hint)
        api = ControlApi(
            self.store,
            membership=lambda: self.facts,
            local=local,
            linearize=self.driver.read_index,
            recall=self.driver.state.known_result,
            admit=self.read_only.check,
            now=self._now,
            rng=self._rng,
            signers=self.signers,
        )
        handlers: dict[Method[Any, Any], Any] = {
            methods.CA_ROOT: self.ca_server.root,
            methods.CA_ISSUE: self.ca_server.issue,
            methods.CA_STATUS: self.ca_server.status,
            methods.RAFT_SNAPSHOT: door.snapshot,
            methods.RAFT_JOIN: self.members.join,
            methods.RAFT_LEAVE: self.members.leave,
            methods.RAFT_DIGEST: self.digest_board.report,
            methods.RAFT_ROTATE_KEY: self.key_rotation.handle,
            methods.AUDIT: AuditDoor(self.audit).read,
            **dispatcher_handlers(lambda: self.dispatcher, managers=self.facts.manager_peers),
            **api.handlers(),
        }
        router.add_sink(methods.RAFT_MESSAGES, door.messages)
        for method in REFUSALS_NOTED & handlers.keys():
            handlers[method] = noting_refusals(self.audit, handlers[method])
        for method, handler in handlers.items():
            is_proxied = method.serves is Serves.LEADER_PROXY
            router.add(method, self.proxy.wrap(method, handler) if is_proxied else handler)

    async def start(self, nursery: trio.Nursery) -> None:
        """Start everything that runs for this manager's whole life."""
        await nursery.start(self.audit.run)
        await nursery.start(self.peers.run)
        await nursery.start(self.snapshots.run)
        await nursery.start(self.leader_link.run)
        await nursery.start(self.driver.run)
        await nursery.start(self.driver.digests.run)
        await nursery.start(self.digest_reporter.run)
        await nursery.start(self.leadership.run)
        nursery.start_soon(self.key_rotation.run)
        nursery.start_soon(self._tell_sessions_of_managers)
        nursery.start_soon(self.evictions.run)

    def _components_of_a_reign(self, term: int) -> Sequence[MakeComponent]:
        """Their store writes in this term only."""
        store, now, rng = self.store.of_reign(term), self._now, self._rng

        def dispatcher() -> Dispatcher:
            self.dispatcher = Dispatcher(
                store,
                managers=self.facts.manager_peers,
                revoked=lambda: self.evictions.revoked,
                now=now,
                rng=rng,
                on_storm=self._note_storm,
            )
            return self.dispatcher

        return (
            dispatcher,
            partial(OrchestratorLoop, store, now=now, rng=rng),
            partial(AllocatorLoop, store, now=now, rng=rng),
            partial(SchedulerLoop, store, now=now, rng=rng),
            partial(EnforcerLoop, store, now=now, rng=rng),
            partial(LostNodesLoop, store, now=now, rng=rng),
            partial(ReaperLoop, store, now=now, rng=rng),
            partial(RoleManagerLoop, store, self.members, now=now, rng=rng),
            partial(SignerLoop, store, self.signers, now=now, rng=rng),
            partial(RootRotationLoop, store, now=now, rng=rng),
            partial(PayloadRotationLoop, store),
            partial(FeatureLevelLoop, store, known=self._features, rng=rng),
            partial(DiskWatch, self.driver, self.members),
            partial(DigestWatch, self.driver, self.members, self.digest_board, self._removals_for_divergence),
            partial(DrainedLeader, self.driver, self._identity.node_id),
        )

    def _note_storm(self, node_id: str, address: str, question: str) -> None:
        self.audit.note(methods.SESSION.name, f"node:{node_id}", address, question)

    def _reign_ended(self) -> None:
        self.dispatcher = None

    async def _tell_sessions_of_managers(self) -> None:
        while True:
            await self.driver.changed.wait()
            self._tell_sessions()

    def _tell_sessions(self) -> None:
        if self.dispatcher is not None:
            self.dispatcher.managers_changed()

    # -- small joints ------------------------------------------------------------------------------------------

    async def join_as_known_member(self, request: JoinRequest) -> None:
        """Ask the leader (through our own proxy's link) to note new addresses. Raises `SwarmError`."""
        leader = self.driver.configuration.member(self.driver.leader)
        if leader is None:
            raise Unavailable("no leader yet")
        if leader.node_id == self._identity.node_id:
            await self.members.readdress(self._identity.node_id, request.addresses)
            return
        connection = await self.leader_link.to(leader)
        await connection.call(methods.RAFT_JOIN, request, timeout_s=15.0)

    def _raft_config(self) -> RaftConfig:
        cluster = self.driver.state.cluster()
        return cluster.spec.raft if cluster is not None else DEFAULTS

    @asynccontextmanager
    async def _dial_member(self, member_id: int) -> AsyncIterator[Connection]:
        member = self.driver.configuration.member(member_id)
        if member is None:
            raise Unavailable(f"member {member_id:x} does not take part any more")
        reasons = []
        for address in member.addresses:
            reached = False
            try:
                async with self._dial(address, "bulk") as connection:
                    if is_node(connection, member.node_id):
                        reached = True
                        yield connection
                        return
                    reasons.append(f"{address} is another node")
            except SwarmError as error:
                if reached:
                    raise
                reasons.append(f"{address}: {error}")
        raise Unavailable(f"member {member_id:x} cannot be reached ({'; '.join(reasons) or 'it has no address'})")

    def _snapshot_saved(self, meta: SnapshotMeta) -> None:
        saved = partial(
            self.driver.snapshot_saved,
            meta,
            keep_entries=self._raft_config().log_entries_for_slow_followers,
            recorded=lambda: self.snapshots.prune(meta),
        )
        # What the audit trail lacks after a crash is derived from the log again: until it is durable the log stays.
        self.audit.once_kept(meta.index, saved)

    async def _reseal_files(self) -> None:
        await self.snapshots.reseal()
        await self.audit.reseal()

    def _keep_diverging_state(self) -> None:
        """Before this log is set aside: the state in memory may be wrong where everything on disk is right."""
        core, applied = self.driver.core, self.driver.applied
        if applied > core.snapshot.index and core.term_of(applied) is not None:
            self.snapshots.keep_as_evidence(self.driver.state, core.snapshot_meta(applied))

    def _snapshot_received(self, message: Message) -> None:
        self.driver.receive(message)
