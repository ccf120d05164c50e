"""The certificate that a node registered with, as the leader saw it in the handshake: what the swarm believes of it.

Never what a node says of itself: a rotation of the root ends by this (reference security 10.9), and a replaced
certificate counts until its successor was seen in use. Pure.
"""

from __future__ import annotations

import hashlib

import msgspec
from msgspec.structs import replace

from swarmd.model import Cluster, Node
from swarmd.pki import fingerprint, is_signed_with_key_of
from swarmd.state.features import SECURITY


class SeenCertificate(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is written of it: its fingerprint, and that of the root being rotated to if that root's key signed it."""

    fingerprint: str
    issuer: str = ""


def seen_certificate(leaf: bytes, cluster: Cluster | None) -> SeenCertificate | None:
    """What to write of this leaf (DER); None while a manager takes part that could not read it, or without a leaf.

    The signature is checked only while the root is rotated: nobody asks at other times.
    """
    if not leaf or cluster is None or SECURITY not in cluster.feature_level:
        return None
    rotation = cluster.root_ca.rotation
    issuer = ""
    if rotation is not None and is_signed_with_key_of(leaf, rotation.certificate):
        issuer = fingerprint(rotation.certificate)
    return SeenCertificate(fingerprint=hashlib.sha256(leaf).hexdigest(), issuer=issuer)


def with_seen(node: Node, seen: SeenCertificate, now: float) -> Node:
    """`node` after it was seen with this certificate: once that is its current one, no earlier one counts any more.

    What has expired is forgotten.
    """
    status = replace(node.status, certificate=seen.fingerprint, issuer=seen.issuer)
    certificate = node.certificate
    is_current = bool(certificate.fingerprint) and certificate.fingerprint == seen.fingerprint
    earlier = tuple(
        replace(old, is_revoked=True) if is_current else old for old in certificate.earlier if old.expires_at > now
    )
    return replace(node, status=status, certificate=replace(certificate, earlier=earlier))
