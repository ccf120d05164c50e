"""A manager whose certificate has expired signs itself another at its start: its log holds the authority's key.

Without this, managers that were all off past their expiry could not form a quorum: each refuses the others in the TLS
handshake, and nobody leads who could sign. SwarmKit has `swarm-rafttool renew-certs` for it, by hand.
"""

from __future__ import annotations

import logging

from msgspec.structs import replace

from swarmd.errors import Invalid, SwarmError
from swarmd.manager.certifier import Certifier
from swarmd.manager.offline import OfflineLog
from swarmd.model import Cluster, Role
from swarmd.node.founding import Identity
from swarmd.node.identity import StateDirectory
from swarmd.node.offline_log import offline_log, sealer_for
from swarmd.pki import Subject, csr_of, read_subject, verify_issued
from swarmd.storage.errors import StorageDamaged, StorageFailed
from swarmd.storage.log_copy import LOG_NAME, copy_of_log
from swarmd.storage.log_store import LogStore

log = logging.getLogger(__name__)


def is_expired_manager(identity: Identity, now: float) -> bool:
    """Whether this is a manager's certificate that nobody accepts any more."""
    subject = read_subject(identity.certificate)
    return subject.role is Role.MANAGER and now >= subject.not_after


def renew_own(directory: StateDirectory, identity: Identity, *, now: float) -> Identity:
    """`identity` with a certificate that the log's authority signs for the key it has, saved; as it is, with a log line
    that says why, where the log has no such authority, says that this is no manager, or the disk refuses.

    The log itself is not changed, and may lie behind the swarm's: once there is a leader it issues another certificate,
    which is the one that is kept in the swarm's records. Blocking.
    """
    subject = read_subject(identity.certificate)
    try:
        cluster = _cluster_of(directory, subject)
        renewed = _renewed(identity, subject, cluster, now)
        if renewed.root != identity.root:
            directory.identity.save_root(renewed.root)
        directory.identity.save_pair(renewed.certificate, renewed.key)
    except (StorageDamaged, StorageFailed, SwarmError) as error:
        log.error("this manager's certificate has expired, and it cannot renew it by itself: %s", error)
        return identity
    log.warning(
        "this manager's certificate had expired: renewed it with the authority's key in its own log, valid until %.0f",
        read_subject(renewed.certificate).not_after,
    )
    return renewed


def _cluster_of(directory: StateDirectory, subject: Subject) -> Cluster:
    """The cluster, if this node is a manager in it as far as the log is known to be committed."""
    if not (directory.raft / LOG_NAME).is_file():
        raise Invalid("it has no log")
    with copy_of_log(directory.raft) as path:
        store = LogStore.open(path, sealer_for(path, directory.data_keys, directory.seal))
        try:
            return _checked(offline_log(store, directory), subject)
        finally:
            store.close()


def _checked(offline: OfflineLog, subject: Subject) -> Cluster:
    state = offline.replay(offline.known_commit)
    cluster, node = state.cluster(), state.node(subject.node_id)
    if cluster is None or cluster.id != subject.swarm_id:
        raise Invalid("its log is not of the certificate's swarm")
    if node is None or state.removed_node(subject.node_id) is not None:
        raise Invalid("by its log it was removed from the swarm")
    if node.role is not Role.MANAGER:
        raise Invalid("by its log it is no manager any more")
    return cluster


def _renewed(identity: Identity, subject: Subject, cluster: Cluster, now: float) -> Identity:
    """The same key: it is the one that the managers know as this node's. Raises `Invalid`."""
    csr = csr_of(identity.key)
    certificate = Certifier().certify(cluster, csr, subject.node_id, Role.MANAGER, now).certificate
    if not certificate:
        raise Invalid("an external CA signs for this swarm")
    root = cluster.root_ca.certificate
    verify_issued(certificate, root=root, key=identity.key, now=now)
    return replace(identity, certificate=certificate, root=root)
