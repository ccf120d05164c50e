"""How far a rotation of the root is: which nodes have a certificate of the new one, and what the others wait for.

Believed is what the managers saw and stored, never what a node says of itself: the certificate that was issued to it,
and the root that the leader verified at its last registration (reference security 10.9).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from swarmd.model import IssuanceState, Membership, Node, NodeState, RootRotation
from swarmd.pki import fingerprint
from swarmd.wire.cluster import RotationProgress, WaitingNode

WAITING_SHOWN_MAX: Final = 20
TOLD: Final = frozenset({IssuanceState.RENEW, IssuanceState.PENDING, IssuanceState.ROTATE})
"""A node in one of these asks, has asked, or was told to."""


def takes_part(node: Node) -> bool:
    """Whether a rotation waits for the node: one that was not let in yet has no certificate of any root."""
    return node.spec.membership is Membership.ACCEPTED


def was_issued(node: Node, rotation: RootRotation) -> bool:
    """Whether the certificate in the node's record is of the new root: nothing else carries its cross-signed form."""
    certificate = node.certificate
    is_issued = certificate.state is IssuanceState.ISSUED
    return is_issued and bool(rotation.cross_signed) and certificate.certificate.endswith(rotation.cross_signed)


def is_converged(node: Node, rotation: RootRotation, target: str) -> bool:
    """Whether the node has such a certificate and was seen with it. `target`: the new root's fingerprint."""
    return node.status.issuer == target and was_issued(node, rotation)


def progress(nodes: Iterable[Node], rotation: RootRotation) -> RotationProgress:
    """What an operator is shown."""
    target = fingerprint(rotation.certificate)
    concerned = sorted((node for node in nodes if takes_part(node)), key=lambda node: node.id)
    waiting = [node for node in concerned if not is_converged(node, rotation, target)]
    return RotationProgress(
        started_at=rotation.started_at,
        fingerprint=target,
        done=len(concerned) - len(waiting),
        total=len(concerned),
        waiting=tuple(
            WaitingNode(node_id=node.id, hostname=node.description.hostname, reason=reason_of(node, rotation))
            for node in waiting[:WAITING_SHOWN_MAX]
        ),
    )


def reason_of(node: Node, rotation: RootRotation) -> str:
    """Why a node is waited for."""
    state = node.certificate.state
    if state is IssuanceState.FAILED:
        return f"it was refused a certificate: {node.certificate.error or 'no reason was given'}"
    if node.status.state in (NodeState.DOWN, NodeState.DISCONNECTED):
        word = node.status.state.name.lower()
        return f"{word}: {node.status.message}" if node.status.message else word
    if state in (IssuanceState.RENEW, IssuanceState.PENDING):
        return "its request waits for the external CA"
    if state is IssuanceState.ROTATE:
        return "was told, has not asked yet"
    if was_issued(node, rotation):
        return "has its new certificate, was not seen with it yet"
    return "has not been told yet"
