"""The life of a node that has an identity: its agent, its certificate, and the manager part if it is one."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import trio

from swarmd.agent.agent import Agent
from swarmd.agent.link import DispatcherLink
from swarmd.executor.factory import make_executor
from swarmd.manager.disk_health import DiskHealth
from swarmd.manager.manager import Manager, Surroundings
from swarmd.model import Cluster, Role, UnlockKey
from swarmd.model import Node as NodeObject
from swarmd.node.addresses import advertised
from swarmd.node.announcing import Announcing
from swarmd.node.config import DEFAULT_PORT, Config, Endpoint
from swarmd.node.doors import Doors
from swarmd.node.enrolment import CallConnection, joining_dial
from swarmd.node.founding import FEATURES, Identity, sealer_of
from swarmd.node.identity import StateDirectory
from swarmd.node.manager_part import ManagerPart
from swarmd.node.memory import NodeMemory
from swarmd.node.neighbours import places
from swarmd.node.pair_saving import save_new_pair
from swarmd.node.remotes import Remotes
from swarmd.node.renewal import Renewal
from swarmd.node.sharing import share_token
from swarmd.node.transport import NodeTransport, anonymous_hello
from swarmd.node.trust import Trust
from swarmd.node.trust_recovery import TrustRecovery
from swarmd.node.unlock_key_fetch import fetch_unlock_key
from swarmd.pki import Subject
from swarmd.raft import Settings
from swarmd.storage.known_managers import NodeFileContents
from swarmd.storage.task_store import TaskStore
from swarmd.transport.credentials import Credentials
from swarmd.wire.ca import RootRequest
from swarmd.wire.dispatch import ManagerPeer
from swarmd.wire.methods import CA_ROOT

log = logging.getLogger(__name__)

LINKS_MOVE_S_MAX: Final = 30.0
"""A manager's session waits for its links to show the new certificate, but not for a manager that never answers."""


class Life:
    """Built from what was found on the disk; `run` once."""

    def __init__(
        self,
        config: Config,
        directory: StateDirectory,
        identity: Identity,
        contents: NodeFileContents,
        task_store: TaskStore,
        *,
        hostname: str,
        now: Callable[[], float],
        rng: random.Random,
        is_overdue: bool = False,
    ) -> None:
        """`is_overdue`: what there is was made in need; the leader is asked for another certificate at once."""
        self._config = config
        self._directory = directory
        self._now = now
        self._rng = rng
        self._credentials = Credentials(certificate=identity.certificate, key=identity.key, root=identity.root)
        self._memory = NodeMemory(directory.node_file, contents)
        self._transport = NodeTransport(self._credentials, FEATURES, now=now)
        self._remotes = Remotes(
            self._known_managers(),
            self._transport.dial,
            rng,
            own_node_id=self._credentials.identity.node_id,
            local=self._local_link,
            members=self._members_by_log,
            changed=lambda managers: self._memory.note_managers(managers, now()),
        )
        changing = trio.Lock()
        self._renewal = Renewal(
            certificate=identity.certificate,
            key=identity.key,
            connect=self._connect_to_ca,
            save=self._save_pair,
            credentials=self._credentials,
            renewed=self._renewed,
            changing=changing,
            now=now,
            rng=rng,
        )
        if is_overdue:
            self._renewal.force()
        self._trust = Trust(self._credentials, save=self._save_root, changing=changing, now=now)
        self._trust_recovery = TrustRecovery(
            self._credentials,
            self._trust,
            fetch=self._fetch_root,
            cluster=self._cluster_by_log,
            role=lambda: self._credentials.identity.role,
            now=now,
            rng=rng,
        )
        self._transport.on_stranger = self._trust_recovery.suspect
        own = self._credentials.identity
        executor = make_executor(
            config.executor,
            directory=directory.path / "agent",
            swarm_id=own.swarm_id,
            node_id=own.node_id,
            hostname=hostname,
            engine_addr=config.engine_addr,
        )
        self._agent = Agent(
            Announcing(executor, FEATURES, config.generic_resources),
            task_store,
            self._remotes,
            now=now,
            rng=rng,
            on_node=self._observe,
            on_root_ca=self._trust.offer,
            on_revoked=self._transport.distrust,
        )
        self._wants_session_moved = trio.Event()
        self._disk = DiskHealth(now)
        self._manager_part = ManagerPart(
            directory,
            self._credentials,
            self._memory,
            Doors(config, directory, self._credentials, self._transport, lambda: self._agent.state),
            make_manager=lambda: Manager(self._surroundings()),
            others=self._other_managers,
            share=partial(share_token, directories=places(os.environ, os.geteuid())),
            disk=self._disk,
        )

    @property
    def manager(self) -> Manager | None:
        """The manager, while this node is one."""
        return self._manager_part.manager

    # -- life ----------------------------------------------------------------------------------------------------

    async def run(self, stopping: trio.Event) -> None:
        """Until told to stop; then in order: the agent's goodbye, the lead, everything else."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._memory.run)
            nursery.start_soon(self._manager_part.run)
            nursery.start_soon(self._renewal.run)
            nursery.start_soon(self._trust.run)
            nursery.start_soon(self._trust_recovery.run)
            nursery.start_soon(self._move_sessions)
            agent_ended = trio.Event()
            agent_scope: trio.CancelScope = await nursery.start(self._run_agent, agent_ended)
            role = self._manager_part.role.name.lower()
            log.info("node %s is up as a %s", self._credentials.identity.node_id, role)
            await stopping.wait()
            agent_scope.cancel()
            await agent_ended.wait()
            if self.manager is not None:
                await self.manager.hand_over()
            nursery.cancel_scope.cancel()

    async def _run_agent(self, ended: trio.Event, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        """Started once the stored tasks are adopted. Until then the agent is not cancelled: it shields its tasks from
        the first moment on, and could not be told to end before it is there."""
        try:
            with trio.CancelScope(shield=True) as scope:
                async with trio.open_nursery() as nursery:
                    await nursery.start(self._agent.run)
                    task_status.started(scope)
                    scope.shield = False
        finally:
            ended.set()

    async def _move_sessions(self) -> None:
        """Once the leader has seen the new certificate the old one is revoked, and every connection that shows it ends:
        so a manager's links move first."""
        while True:
            await self._wants_session_moved.wait()
            self._wants_session_moved = trio.Event()
            manager = self.manager
            if manager is not None and self._credentials.identity.role is Role.MANAGER:
                with trio.move_on_after(LINKS_MOVE_S_MAX):
                    await manager.until_links_moved()
            self._agent.certificate_changed()

    # -- what the manager is given -------------------------------------------------------------------------------

    def _surroundings(self) -> Surroundings:
        config = self._config
        return Surroundings(
            directory=self._directory.raft,
            sealer_of=partial(
                sealer_of,
                keys_path=self._directory.data_keys,
                random_bytes=os.urandom,
                seal=self._directory.seal,
            ),
            disk_keys=self._directory.keys,
            renew=self._renewal.force,
            credentials=self._credentials,
            listener_of=partial(self._transport.listener, config=config, remembered_port=self._memory.remote_port),
            dial=self._transport.dial,
            advertised=self._advertised,
            known_addresses=self._other_managers,
            session=lambda: self._agent.state,
            settings=Settings(heartbeat_ticks=config.heartbeat_tick, election_ticks_min=config.election_tick),
            features=FEATURES,
            disk=self._disk,
            now=self._now,
            rng=self._rng,
            joins_per_s=config.joins_per_s,
        )

    async def _advertised(self, port: int) -> tuple[str, ...]:
        asked = self._config.listen
        if asked is None or not asked.port:
            self._memory.note_port(0 if asked is None and port == DEFAULT_PORT else port)
        return await trio.to_thread.run_sync(advertised, self._config, port, self._a_peer())

    def _a_peer(self) -> Endpoint | None:
        """Somebody whose route tells which of our addresses others see."""
        if self._config.join_addr is not None:
            return self._config.join_addr
        others = self._other_managers()
        if not others:
            return None
        host, _, port = others[0].rpartition(":")
        return Endpoint(host.strip("[]"), int(port))

    # -- what the parts tell -------------------------------------------------------------------------------------

    def _observe(self, node: NodeObject) -> None:
        self._renewal.observe(node)

    def _renewed(self, subject: Subject) -> None:
        self._wants_session_moved.set()
        self._trust.certificate_changed()
        self._manager_part.certificate_changed()

    @asynccontextmanager
    async def _connect_to_ca(self, *, anonymous: bool) -> AsyncIterator[CallConnection]:
        local = self.manager.local_ca() if self.manager is not None else None
        if local is not None:
            yield local
            return
        async with self._transport.dial_any(self._remotes.addresses, anonymous=anonymous) as connection:
            yield connection

    def _local_link(self) -> DispatcherLink | None:
        return self.manager.local_link() if self.manager is not None else None

    def _members_by_log(self) -> tuple[ManagerPeer, ...]:
        parts = self.manager.parts if self.manager is not None else None
        return parts.facts.manager_peers() if parts is not None else ()

    async def _save_pair(self, certificate: bytes, key: bytes) -> None:
        async def fetch() -> UnlockKey:
            credentials = Credentials(certificate=certificate, key=key, root=self._credentials.root)
            transport = NodeTransport(credentials, FEATURES)
            return await fetch_unlock_key(lambda: transport.dial_any(self._remotes.addresses, anonymous=False))

        was_manager = self._manager_part.role is Role.MANAGER
        await save_new_pair(self._directory, certificate, key, was_manager=was_manager, fetch=fetch)

    def _cluster_by_log(self) -> Cluster | None:
        parts = self.manager.parts if self.manager is not None else None
        return parts.driver.state.cluster() if parts is not None else None

    async def _fetch_root(self, address: str) -> bytes:
        async with joining_dial(anonymous_hello)(address, None) as connection:
            return (await connection.call(CA_ROOT, RootRequest())).certificate

    async def _save_root(self, root: bytes) -> None:
        await trio.to_thread.run_sync(self._directory.identity.save_root, root)

    # -- which managers there are --------------------------------------------------------------------------------

    def _known_managers(self) -> dict[str, tuple[str, ...]]:
        known = {m.node_id: m.addresses for m in self._memory.managers}
        if self._config.join_addr is not None:
            known[""] = (str(self._config.join_addr),)
        return known

    def _other_managers(self) -> tuple[str, ...]:
        """Where other managers may be. Of a join address nobody knows whose it is; it counts unless this node is known
        to be the only manager."""
        own = self._credentials.identity.node_id
        known = self._memory.managers
        addresses = [a for m in known if m.node_id != own for a in m.addresses]
        is_sole = bool(known) and all(m.node_id == own for m in known)
        if self._config.join_addr is not None and not is_sole:
            addresses.append(str(self._config.join_addr))
        return tuple(dict.fromkeys(addresses))
