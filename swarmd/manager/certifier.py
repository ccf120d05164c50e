"""Signs for the swarm: from a request and a decision to the certificate that a node's record holds."""

from __future__ import annotations

from msgspec.structs import replace

from swarmd.model import Cluster, IssuanceState, NodeCertificate, Role
from swarmd.pki import Authority, Signing, check_issued, signing_of


class Certifier:
    """Keeps the parsed authority between calls: parsing its key costs more than signing with it."""

    def __init__(self) -> None:
        self._authority: Authority | None = None

    def certify(
        self,
        cluster: Cluster,
        csr: bytes,
        node_id: str,
        role: Role,
        now: float,
        *,
        before: NodeCertificate | None = None,
    ) -> NodeCertificate:
        """The record of this request: with its certificate if the swarm has the key of the root that signs now, else
        one that waits for the external CA (`loops.signer`), in which what was certified `before` stays.

        While the root is rotated the new one signs. Raises `Invalid` for a request that cannot be signed.
        """
        signing = signing_of(cluster.root_ca)
        if not signing.key:
            return waiting(csr, role, before)
        certificate = self._authority_of(signing).sign(
            csr,
            node_id=node_id,
            role=role,
            swarm_id=cluster.id,
            now=now,
            expiry_s=cluster.spec.ca.node_cert_expiry_s,
        )
        return certified(cluster, certificate, csr=csr, node_id=node_id, role=role, now=now)

    def _authority_of(self, signing: Signing) -> Authority:
        kept = self._authority
        if kept is None or kept.certificate != signing.certificate or kept.key != signing.key:
            kept = self._authority = Authority(signing.certificate, signing.key)
        return kept


def certified(
    cluster: Cluster,
    certificate: bytes,
    *,
    csr: bytes,
    node_id: str,
    role: Role,
    now: float,
) -> NodeCertificate:
    """The record of a certificate that somebody signed for this request, the cross-signed root behind it while the root
    is rotated. Raises `Invalid` unless it says exactly what was asked for."""
    signing = signing_of(cluster.root_ca)
    leaf, subject = check_issued(
        certificate, csr=csr, node_id=node_id, role=role, swarm_id=cluster.id, root=signing.certificate, now=now
    )
    return NodeCertificate(
        role=role,
        csr=csr,
        state=IssuanceState.ISSUED,
        certificate=leaf + signing.cross_signed,
        expires_at=subject.not_after,
    )


def waiting(csr: bytes, role: Role, before: NodeCertificate | None) -> NodeCertificate:
    """The record of a request that an external CA must sign. What the node has holds until then, and its role with it:
    a manager's certificate is not a worker's because it is about to be replaced."""
    if before is None:
        return NodeCertificate(role=role, csr=csr, state=IssuanceState.PENDING)
    return replace(
        before, role=before.role if before.certificate else role, csr=csr, state=IssuanceState.RENEW, error=""
    )
