"""Signs for the swarm: from a request and a decision to the certificate that a node's record holds."""

from __future__ import annotations

from swarmd.model import Cluster, IssuanceState, NodeCertificate, Role, RootCA
from swarmd.pki import Authority, read_subject


class Certifier:
    """Keeps the parsed authority between calls: parsing its key costs more than signing with it."""

    def __init__(self) -> None:
        self._authority: Authority | None = None

    def certify(self, cluster: Cluster, csr: bytes, node_id: str, role: Role, now: float) -> NodeCertificate:
        """The record of a certificate for this request. Raises `Invalid` for a request that cannot be signed."""
        certificate = self._authority_of(cluster.root_ca).sign(
            csr,
            node_id=node_id,
            role=role,
            swarm_id=cluster.id,
            now=now,
            expiry_s=cluster.spec.ca.node_cert_expiry_s,
        )
        return NodeCertificate(
            role=role,
            csr=csr,
            state=IssuanceState.ISSUED,
            certificate=certificate,
            expires_at=read_subject(certificate).not_after,
        )

    def _authority_of(self, root: RootCA) -> Authority:
        kept = self._authority
        if kept is None or kept.certificate != root.certificate or kept.key != root.key:
            kept = self._authority = Authority(root.certificate, root.key)
        return kept
