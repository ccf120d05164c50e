"""Read-only before full: without enough well disks nothing new is taken, while removals and the swarm itself go on.

The rule: a change by a user that may make the state grow needs a majority of voters whose disks are fit to lead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from swarmd.errors import ResourceExhausted
from swarmd.manager.raft_driver import RaftDriver
from swarmd.raft.quorum import majority
from swarmd.wire.disk import IN_SHORT, DiskCondition, DiskReport
from swarmd.wire.methods import NODE_ACCEPT, SERVICE_ROLLBACK, SERVICE_UPDATE, Method

GROWING: Final = frozenset({SERVICE_UPDATE.name, SERVICE_ROLLBACK.name, NODE_ACCEPT.name})
"""Besides all that ends in `.create`. Nodes may still be drained, demoted and removed: that is how it is mended."""


class ReadOnly:
    """Judges a change on the leader.

    Args:
        disks: what is wrong with the disk of a node's manager, if anything is known to be.
    """

    def __init__(self, driver: RaftDriver, disks: Callable[[str], DiskReport | None]) -> None:
        self._driver = driver
        self._disks = disks

    def check(self, method: Method[Any, Any]) -> None:
        """Raise `ResourceExhausted` if this method may not act now."""
        if not method.name.endswith(".create") and method.name not in GROWING:
            return
        voters = [member for member in self._driver.configuration.members if member.is_voter]
        bad = {m.node_id: r for m in voters if (r := self._disks(m.node_id)) is not None and not r.may_lead}
        if bad and len(voters) - len(bad) < majority(len(voters)):
            which = ", ".join(f"{self._name(node_id)} ({_how(report)})" for node_id, report in sorted(bad.items()))
            raise ResourceExhausted(
                f"nothing new is taken while {len(bad)} of {len(voters)} managers have no space: {which}",
                hint="free space there; removing services and nodes still works",
            )

    def _name(self, node_id: str) -> str:
        node = self._driver.state.node(node_id)
        return (node.spec.name or node.description.hostname or node_id) if node is not None else node_id


def _how(report: DiskReport) -> str:
    if report.condition is not DiskCondition.CRITICAL:
        return IN_SHORT[report.condition]
    return f"{report.free_bytes / (1 << 20):.1f} of {report.total_bytes >> 20} MiB free"
