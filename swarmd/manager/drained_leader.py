"""A drained machine is about to be worked on: if it leads, it hands the lead to a manager that is not drained.

SwarmKit leaves the lead where it is; but who drains the leader before a reboot expects that the swarm does not notice.
"""

from __future__ import annotations

import logging
import math
from typing import Final

import trio

from swarmd.errors import FailedPrecondition
from swarmd.manager.loops.feed import Feed
from swarmd.manager.raft_driver import RaftDriver
from swarmd.model import Availability, Role
from swarmd.state.command import Table
from swarmd.state.watch import Route

log = logging.getLogger(__name__)

RETRY_S: Final = 5.0
"""While nobody could take the lead, or the one asked has not."""


class DrainedLeader:
    """One instance per reign."""

    def __init__(self, driver: RaftDriver, own_node_id: str) -> None:
        self._driver = driver
        self._own_node_id = own_node_id
        self._has_told = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch until cancelled, which is what a hand-over ends in. A lead that nobody could take is kept."""
        with Feed(self._driver.state, (Route(Table.NODE),)) as feed:
            task_status.started()
            while True:
                if self._is_drained(self._own_node_id):
                    self._hand_over()
                with trio.move_on_after(RETRY_S if self._is_drained(self._own_node_id) else math.inf):
                    await feed.next()

    def _is_drained(self, node_id: str) -> bool:
        node = self._driver.state.node(node_id)
        return node is not None and node.spec.availability is Availability.DRAIN

    def _hand_over(self) -> None:
        heir = self._heir()
        try:
            if heir:
                self._driver.transfer_leadership(heir)
                log.info("this node is drained: handing the lead to member %x", heir)
                return
        except FailedPrecondition as refusal:
            log.debug("handing over: %s", refusal)
        if not self._has_told:
            self._has_told = True
            log.warning("this node is drained and leads on: no other manager that is not drained answers")

    def _heir(self) -> int:
        """The voter with the most of the log among those that answer, and are to stay; 0 if there is none."""
        members = {m.member_id: m for m in self._driver.configuration.members if m.is_voter}
        fit = [
            progress
            for progress in self._driver.core.progress()
            if progress.member_id in members
            and progress.is_active
            and not progress.is_rolled_back
            and self._may_lead(members[progress.member_id].node_id)
        ]
        return max(fit, key=lambda p: (p.match, -p.member_id)).member_id if fit else 0

    def _may_lead(self, node_id: str) -> bool:
        node = self._driver.state.node(node_id)
        stays = node is not None and node.spec.desired_role is Role.MANAGER
        return stays and node_id != self._own_node_id and not self._is_drained(node_id)
