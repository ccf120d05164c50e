"""The certificate that a node registered with, as the leader verified it: never as the node tells."""

from __future__ import annotations

import msgspec

from swarmd.model import Cluster, Node, RootRotation
from swarmd.pki import fingerprint, is_signed_by
from swarmd.state.features import SECURITY


class Seen(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A node's leaf in use: its fingerprint, and that of the root that a rotation waits for, if that one signed it."""

    fingerprint: str
    issuer: str = ""


def seen_now(certificate: bytes, shown: str, cluster: Cluster | None) -> Seen | None:
    """What to record of a registration with this leaf (DER) and fingerprint; None while the swarm keeps no such record.

    The signature is verified only while a root rotation waits for it: it costs a tenth of a millisecond.
    """
    if cluster is None or SECURITY not in cluster.feature_level or not shown:
        return None
    rotation = cluster.root_ca.rotation
    return Seen(fingerprint=shown, issuer=_issuer(certificate, rotation) if rotation is not None else "")


def _issuer(certificate: bytes, rotation: RootRotation) -> str:
    return fingerprint(rotation.certificate) if is_signed_by(certificate, rotation.certificate) else ""


def with_seen(node: Node, seen: Seen, now: float) -> Node:
    """The node with what was seen of it. Once its present certificate is in use, those before it are revoked."""
    earlier = tuple(known for known in node.certificate.earlier if known.expires_at > now)
    if seen.fingerprint == node.certificate.fingerprint:
        earlier = tuple(msgspec.structs.replace(known, is_revoked=True) for known in earlier)
    status = msgspec.structs.replace(node.status, certificate=seen.fingerprint, issuer=seen.issuer)
    certificate = node.certificate
    if earlier != certificate.earlier:
        certificate = msgspec.structs.replace(certificate, earlier=earlier)
    return msgspec.structs.replace(node, status=status, certificate=certificate)
