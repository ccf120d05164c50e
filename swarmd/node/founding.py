"""Founding a swarm: its CA, its first manager, and the first entries of its log, in an order that survives a crash.

The log is made durable before the identity is saved. A crash in between leaves a log without an identity, which the
next start recognises and begins again; once the identity is saved the swarm exists.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from swarmd.errors import SwarmError
from swarmd.model import (
    Cluster,
    ClusterSpec,
    IssuanceState,
    JoinTokens,
    Node,
    NodeCertificate,
    NodeSpec,
    RaftConfig,
    Role,
    RootCA,
    new_id,
)
from swarmd.pki import Authority, fingerprint, new_key_and_csr, new_token, read_subject, root_digest
from swarmd.raft import Entry, EntryKind, HardState, Member
from swarmd.raft.membership import bootstrap_configuration
from swarmd.state.command import CommandId, encode_command
from swarmd.state.features import KINDS, ORCHESTRATION, SECURITY
from swarmd.state.store import State
from swarmd.storage.data_keys import load
from swarmd.storage.disk_seal import DiskSeal
from swarmd.storage.errors import StorageDamaged
from swarmd.storage.key_file import KeyFile
from swarmd.storage.log_store import LogBatch, LogIdentity, LogStore
from swarmd.storage.sealing import Sealer, sealing_context
from swarmd.wire.raft_codec import encode_runs

FEATURES: Final = ("base.1", "join.1", KINDS, ORCHESTRATION, SECURITY)
"""What this version can do, announced by every node (foundations: Version skew)."""

FOUNDING_ENTRIES: Final = 3
"""Two that make the founder a voter, one that creates the cluster and its node."""


class Identity(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a node is saved as (PEM)."""

    root: bytes
    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        """Without the key: representations end in logs and tracebacks."""
        return f"Identity(certificate=<{len(self.certificate)} bytes>)"


class Founding(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A new swarm, decided and not yet durable."""

    identity: Identity
    log_identity: LogIdentity
    hard_state: HardState
    entries: tuple[Entry, ...]


def found(*, raft: RaftConfig, now: float, rng: random.Random) -> Founding:
    """Decide everything about a new swarm. Where its manager answers is announced once it listens."""
    authority = Authority.create(now)
    swarm_id, node_id = new_id(rng), new_id(rng)
    key, csr = new_key_and_csr()
    spec = ClusterSpec(raft=raft)
    certificate = authority.sign(
        csr, node_id=node_id, role=Role.MANAGER, swarm_id=swarm_id, now=now, expiry_s=spec.ca.node_cert_expiry_s
    )
    member = Member(member_id=rng.getrandbits(62) + 1, node_id=node_id, is_voter=True)
    hard_state, entries = bootstrap_configuration(member)
    digest = root_digest(authority.certificate)
    cluster = Cluster(
        id=swarm_id,
        spec=spec,
        root_ca=RootCA(
            certificate=authority.certificate,
            key=authority.key,
            digest=digest,
            join_tokens=JoinTokens(worker=new_token(digest, rng), manager=new_token(digest, rng)),
        ),
        feature_level=FEATURES,
    )
    node = Node(
        id=node_id,
        spec=NodeSpec(desired_role=Role.MANAGER),
        role=Role.MANAGER,
        certificate=NodeCertificate(
            role=Role.MANAGER,
            csr=csr,
            state=IssuanceState.ISSUED,
            certificate=certificate,
            expires_at=read_subject(certificate).not_after,
            fingerprint=fingerprint(certificate),
        ),
    )
    first = _creation(entries, cluster, node, member.member_id, now, rng)
    return Founding(
        identity=Identity(root=authority.certificate, certificate=certificate, key=key),
        log_identity=LogIdentity(
            swarm_id=swarm_id, node_id=node_id, member_id=member.member_id, incarnation=rng.randbytes(16)
        ),
        hard_state=hard_state,
        entries=(*entries, first),
    )


def _creation(
    before: tuple[Entry, ...], cluster: Cluster, node: Node, member_id: int, now: float, rng: random.Random
) -> Entry:
    """The entry that creates the cluster and its first node, as any later change would be made."""
    state = State()
    for entry in before:
        state.skip(entry.index, entry.body)
    tx = state.begin(now, rng)
    tx.create(cluster)
    tx.create(node)
    command = tx.command(CommandId(member_id, rng.randbytes(16), 0), actor=f"node:{node.id}")
    last = before[-1]
    return Entry(last.index + 1, last.term, EntryKind.DATA, encode_command(command))


def make_log_durable(
    founding: Founding, *, raft_directory: Path, keys_path: Path, random_bytes: Callable[[int], bytes]
) -> None:
    """Write the first entries. Blocking. Afterwards the identity may be saved."""
    store = open_log(founding.log_identity, raft_directory, keys_path, random_bytes)
    try:
        store.initialise(founding.log_identity)
        store.write(LogBatch(hard_state=founding.hard_state, runs=encode_runs(founding.entries)))
    finally:
        store.close()


def is_just_founded(raft_directory: Path, keys_path: Path) -> bool:
    """Whether the log holds nothing but the beginning of a founding. Blocking. Raises `StorageFailed`."""
    path = raft_directory / "raft.db"
    try:
        identity = LogStore.read_identity(path)
        if identity is None:
            return True
        keys = load(keys_path)
        if keys is None:
            return False  # they are made before the log: somebody lost them
        sealer = Sealer(keys.by_id, keys.current, sealing_context(identity.swarm_id, identity.member_id))
        store = LogStore.open(path, sealer)
        try:
            stored = store.load()
        finally:
            store.close()
    except (StorageDamaged, SwarmError):
        return False
    return not stored.snapshot.index and len(stored.entries) <= FOUNDING_ENTRIES


def open_log(
    identity: LogIdentity, raft_directory: Path, keys_path: Path, random_bytes: Callable[[int], bytes]
) -> LogStore:
    """The log of this member, opened with this manager's data keys. Blocking."""
    return LogStore.open(raft_directory / "raft.db", sealer_of(identity, keys_path, random_bytes))


def sealer_of(
    identity: LogIdentity, keys_path: Path, random_bytes: Callable[[int], bytes], seal: DiskSeal | None = None
) -> Sealer:
    """What seals this member's blobs, and counts them. `seal` seals the file of its keys."""
    return KeyFile(keys_path, random_bytes, seal).sealer(sealing_context(identity.swarm_id, identity.member_id))
