"""Nodes that asked to join without a token, and wait for an operator: what may be written of them. Pure.

Until one is accepted it has a record and no certificate; nothing but the root certificate is sent to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from swarmd.errors import FailedPrecondition, PermissionDenied, ResourceExhausted
from swarmd.model import Cluster, Membership, Node, NodeDescription, TokenlessJoin

FEATURE: Final = "join.1"
WAITING_MAX: Final = 10
"""Anybody may ask; more than these would bury the one that is meant."""
HOSTNAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


def check_may_wait(cluster: Cluster, nodes: Iterable[Node]) -> None:
    """Raise unless one more node may wait: `PermissionDenied`, `FailedPrecondition`, `ResourceExhausted`."""
    if cluster.spec.ca.tokenless_join is TokenlessJoin.DENY:
        raise PermissionDenied(
            "this swarm lets nobody in without a join token",
            hint="`swarmctl cluster join-token worker` on a manager shows a token; give it with --join-token",
        )
    if FEATURE not in cluster.feature_level:
        raise FailedPrecondition(
            "not all managers of this swarm know about joining without a token yet",
            hint="upgrade them all, or give --join-token",
        )
    waiting = sum(node.spec.membership is Membership.PENDING for node in nodes)
    if waiting >= WAITING_MAX:
        raise ResourceExhausted(
            f"{waiting} nodes wait to be accepted already",
            hint="accept or reject some (swarmctl node ls shows them), or give --join-token",
        )


def described(hostname: str) -> NodeDescription:
    """What is known of a node before its first session. A name that is none is left out: anybody can send one."""
    return NodeDescription(hostname=hostname if HOSTNAME.fullmatch(hostname) else "")
