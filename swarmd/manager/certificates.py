"""The certificates that a node's record counts: the current one, and earlier ones until they expire."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from swarmd.errors import Invalid, ResourceExhausted
from swarmd.model import Cluster, EarlierCertificate, IssuanceState, Node, NodeCertificate, Role
from swarmd.pki import fingerprint, read_subject
from swarmd.state.features import SECURITY

EARLIER_MAX: Final = 64


def tracked(cluster: Cluster, issued: NodeCertificate, before: NodeCertificate, now: float) -> NodeCertificate:
    """`issued` with its fingerprint and, as earlier ones, what `before` still counts. As it is while a manager of an
    older version takes part, and if it waits for a signature still.

    Raises `ResourceExhausted` if more than 64 earlier ones have not expired.
    """
    if SECURITY not in cluster.feature_level or issued.state is not IssuanceState.ISSUED:
        return issued
    earlier = tuple(old for old in (*_replaced(before), *before.earlier) if old.expires_at > now)
    if len(earlier) > EARLIER_MAX:
        raise ResourceExhausted(
            f"{EARLIER_MAX} earlier certificates of this node have not expired yet",
            hint="something renews in a loop; `swarmctl node rm` and a new join make a fresh start",
        )
    return replace(issued, fingerprint=fingerprint(issued.certificate), earlier=earlier)


def manager_fingerprints(certificate: NodeCertificate, now: float) -> tuple[str, ...]:
    """Of every certificate that lets its holder pass for a manager and has not expired."""
    own = _replaced(certificate) if certificate.fingerprint else ()
    return tuple(
        one.fingerprint for one in (*own, *certificate.earlier) if one.role is Role.MANAGER and one.expires_at > now
    )


def distrusted(node: Node, now: float) -> tuple[str, ...]:
    """Of this node's certificates, those that pass for a manager's and no longer are one's."""
    certificate = node.certificate
    if node.role is not Role.MANAGER:
        return manager_fingerprints(certificate, now)
    return tuple(
        old.fingerprint
        for old in certificate.earlier
        if old.is_revoked and old.role is Role.MANAGER and old.expires_at > now
    )


def _replaced(before: NodeCertificate) -> tuple[EarlierCertificate, ...]:
    """The certificate that was the current one, if there was one. One from before fingerprints were kept is read."""
    if not before.certificate:
        return ()
    known = before.fingerprint
    if not known:
        try:
            known = fingerprint(before.certificate)
        except Invalid:
            return ()  # not of our making: it opens no door either
    return (EarlierCertificate(fingerprint=known, expires_at=before.expires_at, role=_certified_role(before)),)


def _certified_role(certificate: NodeCertificate) -> Role:
    """What the certificate itself says: a record that waits for the next one names that one's role already."""
    if certificate.state is IssuanceState.RENEW:
        try:
            return read_subject(certificate.certificate).role
        except Invalid:
            pass
    return certificate.role
