"""`node.renew`: have a node ask for another certificate, with another key, before it is due."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from swarmd.errors import FailedPrecondition
from swarmd.manager.control_api.node_views import not_found
from swarmd.model import IssuanceState, Membership, Node
from swarmd.state.transaction import Transaction

_ASKED: Final = frozenset({IssuanceState.RENEW, IssuanceState.ROTATE})
"""It was told, or has a request that waits for its certificate."""


def renew_node(tx: Transaction, id: str) -> Node:
    """Tell the node, at its session, to renew; one that is down does so when it is back. Told before: as it is.

    Raises `NotFound`, and `FailedPrecondition` for a node that has not been let in.
    """
    node = tx.node(id)
    if node is None:
        raise not_found(id)
    if node.spec.membership is not Membership.ACCEPTED or node.certificate.state is IssuanceState.PENDING:
        raise FailedPrecondition(
            f"node {node.spec.name or node.description.hostname or id} has no certificate yet",
            hint="it waits to be let in: swarmctl node accept CODE",
        )
    if node.certificate.state in _ASKED:
        return node
    told = replace(node, certificate=replace(node.certificate, state=IssuanceState.ROTATE))
    tx.update(told)
    return told
