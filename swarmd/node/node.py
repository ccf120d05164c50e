"""One node's life: identity, promotion, demotion; nests manager and agent. Alone names every class."""

from __future__ import annotations

import logging
import os
import random
import shutil
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
import trio

from swarmd.agent.agent import Agent
from swarmd.agent.link import DispatcherLink
from swarmd.errors import FailedPrecondition
from swarmd.executor.factory import make_executor
from swarmd.manager.manager import Manager, Surroundings
from swarmd.model import Node as NodeObject
from swarmd.model import Role
from swarmd.node.addresses import advertised
from swarmd.node.config import Config, Endpoint
from swarmd.node.doors import Doors
from swarmd.node.founding import FEATURES, Identity, sealer_of
from swarmd.node.identity import IdentityFinder, StateDirectory
from swarmd.node.remotes import Remotes
from swarmd.node.renewal import Renewal
from swarmd.node.transport import NodeTransport, anonymous_hello, listening_endpoint
from swarmd.pki import Subject
from swarmd.raft import Settings
from swarmd.storage.errors import StorageDamaged, StorageFailed
from swarmd.storage.known_managers import KnownManager
from swarmd.storage.lock import hold
from swarmd.storage.quarantine import quarantine
from swarmd.storage.task_store import TaskStore
from swarmd.transport.credentials import Credentials
from swarmd.wire.dispatch import ManagerPeer

log = logging.getLogger(__name__)

MANAGER_RESTART_S: Final = 16.0
"""After a fault of the disk the manager part is tried again this much later; the tasks do not notice."""


class Node:
    """Built from the flags; `run` is its whole life."""

    def __init__(
        self,
        config: Config,
        *,
        now: Callable[[], float] = time.time,  # noqa: TID251 - the one place where the clock comes in
        rng: random.Random | None = None,
    ) -> None:
        self.config = config
        self.now = now
        self.rng = rng or random.SystemRandom()
        self.directory = StateDirectory(config.state_dir)
        self.hostname = config.hostname or socket.gethostname()
        self._stopping = trio.Event()
        self.manager: Manager | None = None

    def stop(self) -> None:
        """Have `run` end: the agent says goodbye, the lead is handed over, tasks keep running."""
        self._stopping.set()

    async def run(self) -> None:
        """Live until `stop` or cancellation.

        Raises `SwarmError` for what the operator must mend: a second daemon on the state directory, a refused token,
        an address in use. `Cancelled` is a crash as far as the swarm can tell, and loses nothing.
        """
        self.directory.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with hold(self.directory.lock):
            make_executor(
                self.config.executor, directory=self.directory.path / "agent"
            )  # refuse before anything is made
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._live_and_leave, nursery.cancel_scope)
                await self._stopping.wait()
                if self.manager is None:
                    nursery.cancel_scope.cancel()

    async def _live_and_leave(self, life: trio.CancelScope) -> None:
        identity = await IdentityFinder(
            self.config, self.directory, hello=anonymous_hello, now=self.now, rng=self.rng
        ).find()
        store = await trio.to_thread.run_sync(TaskStore.open, self.directory.tasks)
        try:
            await _Life(self, identity, store).run(self._stopping)
        finally:
            store.close()
        life.cancel()


class _Life:
    """A node with an identity."""

    def __init__(self, node: Node, identity: Identity, task_store: TaskStore) -> None:
        self._node = node
        self._config = node.config
        self._directory = node.directory
        self._now = node.now
        self._rng = node.rng
        self._identity = identity
        self._credentials = Credentials(certificate=identity.certificate, key=identity.key, root=identity.root)
        self._transport = NodeTransport(self._credentials, FEATURES)
        self._contents = self._directory.node_file.load()
        self._role_changed = trio.Event()
        self._remotes = Remotes(
            self._known_managers(),
            self._transport.dial,
            self._rng,
            local=self._local_link,
            members=self._members_by_log,
            changed=self._save_managers,
        )
        self._renewal = Renewal(
            certificate=identity.certificate,
            key=identity.key,
            connect=partial(self._transport.dial_any, self._remotes.addresses),
            save=self._save_pair,
            credentials=self._credentials,
            renewed=self._renewed,
            now=self._now,
            rng=self._rng,
        )
        self._agent = Agent(
            make_executor(self._config.executor, directory=self._directory.path / "agent", hostname=node.hostname),
            task_store,
            self._remotes,
            now=self._now,
            rng=self._rng,
            on_node=self._observe,
        )
        self._doors = Doors(
            self._config, self._directory, self._credentials, self._transport, lambda: self._agent.state
        )

    # -- life ----------------------------------------------------------------------------------------------------------

    async def run(self, stopping: trio.Event) -> None:
        """Until told to stop; then in order: the agent's goodbye, the lead, everything else."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._supervise_manager)
            nursery.start_soon(self._renewal.run)
            agent_ended = trio.Event()
            agent_scope: trio.CancelScope = await nursery.start(self._run_agent, agent_ended)
            log.info("node %s is up as a %s", self._credentials.identity.node_id, self._role.name.lower())
            await stopping.wait()
            agent_scope.cancel()
            await agent_ended.wait()
            if self._node.manager is not None:
                await self._node.manager.hand_over()
            nursery.cancel_scope.cancel()

    async def _run_agent(self, ended: trio.Event, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope() as scope:
            task_status.started(scope)
            try:
                await self._agent.run()
            finally:
                ended.set()

    # -- the manager part ----------------------------------------------------------------------------------------------

    @property
    def _role(self) -> Role:
        return self._credentials.identity.role

    async def _supervise_manager(self) -> None:
        while True:
            if self._role is Role.MANAGER:
                await self._be_manager()
            else:
                await self._be_worker()

    async def _be_worker(self) -> None:
        await trio.to_thread.run_sync(self._forget_raft)
        async with trio.open_nursery() as nursery:
            await nursery.start(self._doors.run_as_worker)
            while self._role is not Role.MANAGER:
                await self._role_changed.wait()
            nursery.cancel_scope.cancel()

    async def _be_manager(self) -> None:
        manager = Manager(self._surroundings())
        try:
            async with trio.open_nursery() as nursery:
                self._node.manager = manager
                # Before the log is open nothing may be promised, so the fact that there is one is saved first.
                await trio.to_thread.run_sync(self._save_membership, True)  # noqa: FBT003
                await nursery.start(manager.run)
                await nursery.start(self._doors.run_as_manager, manager)
                while self._role is Role.MANAGER:
                    await self._role_changed.wait()
                log.info("not a manager any more")
                nursery.cancel_scope.cancel()
        except* StorageDamaged as group:
            await self._quarantine(group)
        except* StorageFailed as group:
            log.error("the disk failed; the manager part stops, tasks go on: %s", group.exceptions[0])
            await trio.sleep(MANAGER_RESTART_S)
        finally:
            self._node.manager = None

    async def _quarantine(self, group: BaseExceptionGroup[StorageDamaged]) -> None:
        """A damaged log is never cut: it is set aside, and this node joins again as a new member."""
        own = self._credentials.identity.node_id
        others = [m for m in self._contents.managers if m.node_id not in ("", own)]
        if not others:
            raise FailedPrecondition(
                f"the log of the only manager is damaged: {group.exceptions[0]}",
                hint="restore a backup; nothing was changed or deleted",
            )
        aside = await trio.to_thread.run_sync(quarantine, self._directory.raft)
        log.error("the log is damaged (%s): set aside as %s, joining anew", group.exceptions[0], aside)

    def _surroundings(self) -> Surroundings:
        config = self._config
        return Surroundings(
            directory=self._directory.raft,
            sealer_of=partial(sealer_of, keys_path=self._directory.data_keys, random_bytes=os.urandom),
            credentials=self._credentials,
            listener_of=partial(
                self._transport.listener, endpoint=listening_endpoint(config, self._contents.remote_port)
            ),
            dial=self._transport.dial,
            advertised=self._advertised,
            known_addresses=self._other_managers,
            session=lambda: self._agent.state,
            settings=Settings(heartbeat_ticks=config.heartbeat_tick, election_ticks_min=config.election_tick),
            features=FEATURES,
            now=self._now,
            rng=self._rng,
        )

    def _advertised(self, port: int) -> tuple[str, ...]:
        self._save(msgspec.structs.replace(self._contents, remote_port=port))
        return advertised(self._config, port, self._a_peer())

    def _a_peer(self) -> Endpoint | None:
        """Somebody whose route tells which of our addresses others see."""
        if self._config.join_addr is not None:
            return self._config.join_addr
        others = self._other_managers()
        if not others:
            return None
        host, _, port = others[0].rpartition(":")
        return Endpoint(host.strip("[]"), int(port))

    def _forget_raft(self) -> None:
        """A worker has no log: what a demoted manager knew is erased."""
        if self._directory.raft.exists():
            shutil.rmtree(self._directory.raft)
        self._directory.data_keys.unlink(missing_ok=True)
        self._save_membership(False)  # noqa: FBT003

    # -- what the parts tell ------------------------------------------------------------------------------

    def _observe(self, node: NodeObject) -> None:
        self._renewal.observe(node)

    def _renewed(self, subject: Subject) -> None:
        log.info("new certificate: %s until %.0f", subject.role.name.lower(), subject.not_after)
        changed, self._role_changed = self._role_changed, trio.Event()
        changed.set()

    def _local_link(self) -> DispatcherLink | None:
        return self._node.manager.local_link() if self._node.manager is not None else None

    def _members_by_log(self) -> tuple[ManagerPeer, ...]:
        parts = self._node.manager.parts if self._node.manager is not None else None
        return parts.facts.manager_peers() if parts is not None else ()

    # -- what is remembered -------------------------------------------------------------------------------

    def _known_managers(self) -> dict[str, tuple[str, ...]]:
        known = {m.node_id: m.addresses for m in self._contents.managers}
        if self._config.join_addr is not None:
            known[""] = (str(self._config.join_addr),)
        return known

    def _other_managers(self) -> tuple[str, ...]:
        own = self._credentials.identity.node_id
        addresses = [a for m in self._contents.managers if m.node_id != own for a in m.addresses]
        if self._config.join_addr is not None:
            addresses.append(str(self._config.join_addr))
        return tuple(dict.fromkeys(addresses))

    def _save_managers(self, managers: dict[str, tuple[str, ...]]) -> None:
        now = self._now()
        known = [KnownManager(node_id=n, addresses=a, last_seen_at=now) for n, a in managers.items()]
        self._save(self._contents.with_managers(known))

    def _save_membership(self, is_member: bool) -> None:  # noqa: FBT001
        self._save(msgspec.structs.replace(self._contents, has_been_member=is_member))

    def _save(self, contents: object) -> None:
        assert isinstance(contents, type(self._contents))
        self._contents = contents
        self._directory.node_file.save(contents)

    async def _save_pair(self, certificate: bytes, key: bytes) -> None:
        await trio.to_thread.run_sync(self._directory.identity.save_pair, certificate, key)
