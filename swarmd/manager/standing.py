"""What this manager's state says of nodes, as the doors ask it: once a call, so it is kept ready."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from swarmd.model import Node
from swarmd.state.store import State
from swarmd.wire.authorise import REMOVED, Standing

KEPT_MAX: Final = 20_000
"""Nodes whose standing is kept ready; beyond it all are worked out anew."""


class Log(Protocol):
    """Where the state comes from; see `RaftDriver`."""

    @property
    def state(self) -> State: ...

    @property
    def is_leading(self) -> bool: ...

    @property
    def leader(self) -> int: ...


class StateStandings:
    """`Standings` of a manager. `log` returns None until its log is open."""

    def __init__(self, swarm_id: str, log: Callable[[], Log | None]) -> None:
        self.swarm_id: Final = swarm_id
        self._log = log
        self._kept: dict[str, tuple[Node, Standing]] = {}

    @property
    def is_authoritative(self) -> bool:
        """See `Standings`."""
        log = self._log()
        return log is not None and log.is_leading

    @property
    def has_leader(self) -> bool:
        """See `Standings`."""
        log = self._log()
        return log is not None and (log.is_leading or log.leader != 0)

    def of(self, node_id: str) -> Standing | None:
        """See `Standings`. A node's standing is worked out again when its record has changed."""
        log = self._log()
        if log is None:
            return None
        state = log.state
        if state.removed_node(node_id) is not None:
            self._kept.pop(node_id, None)
            return REMOVED
        node = state.node(node_id)
        if node is None:
            return None
        kept = self._kept.get(node_id)
        if kept is not None and kept[0] is node:
            return kept[1]
        if len(self._kept) >= KEPT_MAX:
            self._kept.clear()
        standing = standing_of(node)
        self._kept[node_id] = (node, standing)
        return standing


def standing_of(node: Node) -> Standing:
    """What the record says. Certificates count as kept from the first one on that has its fingerprint recorded."""
    certificate = node.certificate
    if not certificate.fingerprint:
        return Standing(role=node.role)
    return Standing(
        role=node.role,
        fingerprints=frozenset((certificate.fingerprint, *(old.fingerprint for old in certificate.earlier))),
        revoked=frozenset(old.fingerprint for old in certificate.earlier if old.is_revoked),
    )
