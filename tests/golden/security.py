"""A history with everything that came with the feature `security.1`, each field of it set once; its secret opens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from swarmd.model import (
    CAConfig,
    Cluster,
    ClusterSpec,
    EarlierCertificate,
    EncryptionConfig,
    ExternalCA,
    IssuanceState,
    JoinTokens,
    Node,
    NodeCertificate,
    NodeStatus,
    RemovedNode,
    Role,
    RootCA,
    RootRotation,
    Secret,
    SecretSpec,
    UnlockKey,
)
from swarmd.pki.payload_keys import sealed_secret, with_new_key
from swarmd.state import Table, Transaction
from swarmd.state.features import KINDS, SECURITY
from tests.golden.kinds import id_of

CSR: Final = b"-----BEGIN CERTIFICATE REQUEST-----\n" + bytes(range(48, 123)) * 4 + b"\n"
PRINT: Final = "0123456789abcdef" * 4
PAYLOAD: Final = b"\x00correct horse\xff"
"""What the secret of the corpus holds."""
SPEC: Final = ClusterSpec(
    ca=CAConfig(
        external_cas=(
            ExternalCA(url="https://ca.example/sign", options={"a": "b"}, ca_certificate=b"pem of the external root"),
        ),
        signing_ca_certificate=b"pem of the wanted root",
        signing_ca_key=b"pem of its key",
        force_rotate=2,
    ),
    encryption=EncryptionConfig(auto_lock_managers=True),
)
ROTATION: Final = RootRotation(
    certificate=b"pem of the new root",
    cross_signed=b"pem, signed by the old",
    key=b"pem of the new key",
    started_at=7.5,
)
ROOT: Final = RootCA(
    certificate=b"pem",
    key=b"\x01key",
    digest="d" * 50,
    join_tokens=JoinTokens(worker="w", manager="m"),
    rotation=ROTATION,
    last_forced_rotation=1,
)
CERTIFICATE: Final = NodeCertificate(
    role=Role.MANAGER,
    csr=CSR,
    state=IssuanceState.ISSUED,
    certificate=b"pem",
    expires_at=90.5,
    fingerprint=PRINT,
    earlier=(EarlierCertificate(fingerprint=PRINT[::-1], expires_at=80.25, is_revoked=True, role=Role.MANAGER),),
)
NODE: Final = Node(
    id=id_of("node"),
    role=Role.MANAGER,
    status=NodeStatus(certificate=PRINT, issuer=PRINT[::-1]),
    certificate=CERTIFICATE,
)
SECRET: Final = Secret(id=id_of("sealed"), spec=SecretSpec(name="sealed", data=PAYLOAD))


def create_a_swarm_that_knows_it(tx: Transaction) -> None:
    tx.create(Cluster(id=id_of("cluster"), feature_level=(KINDS, SECURITY)))


def lock_and_rotate(tx: Transaction) -> None:
    cluster = _cluster(tx)
    tx.update(replace(cluster, spec=SPEC, root_ca=ROOT, unlock_key=UnlockKey(version=3, key=b"u" * 32)))


def certify(tx: Transaction) -> None:
    tx.nodes_by_request(CSR)
    tx.create(NODE)


def seal_a_secret(tx: Transaction) -> None:
    cluster = with_new_key(_cluster(tx), tx.rng.randbytes)
    tx.update(cluster)
    tx.create(sealed_secret(cluster, SECRET, tx.rng.randbytes))


def remove_a_manager(tx: Transaction) -> None:
    """Who was one knew the key: there is a second one from then on."""
    tx.remove(Table.NODE, NODE.id)
    tx.create(RemovedNode(id=NODE.id, expires_at=100.5, fingerprints=(PRINT,)))
    tx.update(with_new_key(_cluster(tx), tx.rng.randbytes))


def _cluster(tx: Transaction) -> Cluster:
    cluster = tx.cluster()
    assert cluster is not None
    return cluster


STEPS: Final[dict[str, Callable[[Transaction], object]]] = {
    "security-create-the-swarm": create_a_swarm_that_knows_it,
    "security-lock-and-rotate": lock_and_rotate,
    "security-certify": certify,
    "security-seal-a-secret": seal_a_secret,
    "security-remove-a-manager": remove_a_manager,
}
