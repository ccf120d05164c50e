"""Who this node is: loaded, founded, or enrolled (reference security 1.2, raft-store-node 4.1)."""

from __future__ import annotations

import logging
import os
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import trio

from swarmd.errors import FailedPrecondition, Invalid, PermissionDenied
from swarmd.model import RaftConfig, Role, UnlockKey
from swarmd.node.config import Config
from swarmd.node.enrolment import Enrolled, Enrolment, joining_dial
from swarmd.node.founding import FEATURES, Identity, found, is_just_founded, make_log_durable
from swarmd.node.neighbours import find_token, is_own_address, places
from swarmd.node.preflight import refuse_busy_doors
from swarmd.node.transport import NodeTransport
from swarmd.node.unlock_key_fetch import fetch_patiently
from swarmd.node.waiting import Waiting
from swarmd.pki import read_subject
from swarmd.pki.pem import load_certificate, load_key, spki
from swarmd.pki.unlock_key import Owner
from swarmd.storage.disk_keys import DiskKeys
from swarmd.storage.disk_seal import NOBODY, DiskSeal
from swarmd.storage.errors import StorageDamaged, StorageFailed
from swarmd.storage.identity_files import IdentityFiles
from swarmd.storage.join_request import JoinRequestFile
from swarmd.storage.known_managers import NodeFile
from swarmd.transport.credentials import Credentials
from swarmd.wire.frames import Hello

log = logging.getLogger(__name__)


class StateDirectory:
    """Where one node keeps everything."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.certificates = path / "certificates"
        self.seal = DiskSeal()
        self.identity = IdentityFiles(self.certificates, self.seal)
        self.data_keys = self.certificates / "data-keys.cbor"
        self.raft = path / "raft"
        self.keys = DiskKeys(self.identity, self.data_keys, self.raft, self.seal)
        self.tasks = path / "agent" / "tasks.db"
        self.processes = path / "agent" / "process"
        self.node_file = NodeFile(path / "state.cbor")
        self.lock = path / "swarmd.lock"
        self.control_socket = path / "control.sock"
        self.join_request = JoinRequestFile(self.certificates / "join-request.pem")


class IdentityFinder:
    """Finds this node's identity, making one where that is allowed: existing state never founds a swarm again."""

    def __init__(
        self,
        config: Config,
        directory: StateDirectory,
        *,
        hello: Callable[[], Hello],
        now: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._config = config
        self._directory = directory
        self._dial = joining_dial(hello)
        self._hostname = config.hostname or socket.gethostname()
        self._places = places(os.environ, os.geteuid())
        self._now = now
        self._rng = rng

    async def find(self) -> Identity:
        """The identity, saved. Raises `FailedPrecondition` for a state directory that contradicts itself, `Locked`."""
        saved = await trio.to_thread.run_sync(self._load)
        if saved is not None:
            self._own(saved)
            # A crash between the two left it: it holds a key in clear.
            await trio.to_thread.run_sync(self._directory.join_request.delete)
            return saved
        if self._config.join_addr is not None:
            return await self._enrol()
        return await trio.to_thread.run_sync(self._found)

    def _own(self, identity: Identity) -> None:
        """From here on it is known whose keys are sealed. Raises `StorageDamaged` if others' are."""
        subject = read_subject(identity.certificate)
        owner = Owner(subject.swarm_id, subject.node_id)
        if self._directory.seal.owner not in (NOBODY, owner):
            raise StorageDamaged(f"{self._directory.certificates} holds the sealed keys of another node")
        self._directory.seal.owner = owner

    def _load(self) -> Identity | None:
        files = self._directory.identity
        pair, root = files.pair(belong_together), files.root()
        if pair is None and root is None:
            return None
        if pair is not None and root is not None:
            return Identity(root=root, certificate=pair[0], key=pair[1])
        if pair is None and self._config.join_addr is not None:
            return None  # a joining that was interrupted: the root is kept, the rest is asked for again
        if pair is None and self._is_unfinished_founding():
            return None  # between the root and the pair
        raise FailedPrecondition(
            f"{self._directory.certificates} holds only half of an identity",
            hint="join again with --join-addr and --join-token, or start with an empty state directory",
        )

    async def _enrol(self) -> Identity:
        assert self._config.join_addr is not None
        if self._config.join_token is not None:
            enrolled = await self._enrol_with(self._config.join_token)
        else:
            enrolled = await self._enrol_as_neighbour() or await self._wait_to_be_accepted()
        identity = Identity(root=enrolled.root, certificate=enrolled.certificate, key=enrolled.key)
        # Before the key is saved: a manager's lies on no disk in clear while autolock is on.
        is_manager = enrolled.subject.role is Role.MANAGER
        kek = await self._fetch_unlock_key(identity) if is_manager else UnlockKey()
        await trio.to_thread.run_sync(self._save, identity, kek)
        await trio.to_thread.run_sync(self._directory.join_request.delete)
        log.info("joined swarm %s as node %s", enrolled.subject.swarm_id, enrolled.subject.node_id)
        return identity

    async def _fetch_unlock_key(self, identity: Identity) -> UnlockKey:
        address = str(self._config.join_addr)
        credentials = Credentials(certificate=identity.certificate, key=identity.key, root=identity.root)
        transport = NodeTransport(credentials, FEATURES)
        return await fetch_patiently(lambda: transport.dial(address))

    async def _enrol_with(self, token: str) -> Enrolled:
        saved = await trio.to_thread.run_sync(self._directory.identity.root)
        return await Enrolment(
            (str(self._config.join_addr),),
            token,
            dial=self._dial,
            now=self._now,
            rng=self._rng,
            root=saved,
            hostname=self._hostname,
        ).run()

    async def _enrol_as_neighbour(self) -> Enrolled | None:
        """With the token that a manager of this machine and user left; None if there is none that lets us in."""
        token = await trio.to_thread.run_sync(self._neighbours_token)
        if token is None:
            return None
        log.info("joining with the token that the manager at %s left for its neighbours", self._config.join_addr)
        try:
            return await self._enrol_with(token)
        except (PermissionDenied, Invalid) as error:
            log.warning("the token that was left on this machine is out of date: %s", error)
            return None

    def _neighbours_token(self) -> str | None:
        address = self._config.join_addr
        assert address is not None
        return find_token(address.port, self._places) if is_own_address(address.host) else None

    async def _wait_to_be_accepted(self) -> Enrolled:
        return await Waiting(
            (str(self._config.join_addr),),
            self._directory.join_request,
            dial=self._dial,
            announce=_announce,
            now=self._now,
            rng=self._rng,
            hostname=self._hostname,
        ).run()

    def _is_unfinished_founding(self) -> bool:
        """Whether what is here was left by a crash in the middle of a founding: nobody ever saw that swarm.

        A founding writes the log, then the identity, and only then does the node run and note that it is a member.
        """
        if self._directory.node_file.load().has_been_member or not self._directory.raft.exists():
            return False
        return is_just_founded(self._directory.raft, self._directory.data_keys)

    def _found(self) -> Identity:
        refuse_busy_doors(self._config)
        if self._directory.node_file.load().has_been_member or (
            self._directory.raft.exists() and not self._is_unfinished_founding()
        ):
            raise FailedPrecondition(
                f"this node was a manager: {self._directory.path} has its log and not its certificates",
                hint="restore a backup, or start with an empty state directory",
            )
        raft = RaftConfig(heartbeat_tick=self._config.heartbeat_tick, election_tick=self._config.election_tick)
        founding = found(raft=raft, now=self._now(), rng=self._rng)
        self._clear_unfinished_founding()
        make_log_durable(
            founding,
            raft_directory=self._directory.raft,
            keys_path=self._directory.data_keys,
            random_bytes=self._rng.randbytes,
        )
        self._save(founding.identity, UnlockKey())
        log.info("founded swarm %s", read_subject(founding.identity.certificate).swarm_id)
        return founding.identity

    def _clear_unfinished_founding(self) -> None:
        try:
            if self._directory.raft.exists():
                shutil.rmtree(self._directory.raft)
            self._directory.data_keys.unlink(missing_ok=True)
        except OSError as error:
            raise StorageFailed(f"cannot clear {self._directory.path}: {error.strerror}") from error

    def _save(self, identity: Identity, kek: UnlockKey) -> None:
        self._own(identity)
        # A request that an operator had to decide about kept its key on the disk meanwhile.
        never_clear = self._directory.join_request.load() is None
        self._directory.identity.save_root(identity.root)
        self._directory.keys.save_first_pair(identity.certificate, identity.key, kek, never_clear=never_clear)


def _announce(code: str) -> None:
    log.warning("this node waits to be let in; on a manager, type: swarmctl node accept %s", code)


def belong_together(certificate: bytes, key: bytes) -> bool:
    """Whether this certificate is of this key."""
    try:
        return spki(load_certificate(certificate).public_key()) == spki(load_key(key).public_key())
    except Invalid:
        return False
