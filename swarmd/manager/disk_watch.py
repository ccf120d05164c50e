"""The leader's eye on members whose disk went back: a restored or wiped log may have lost what it once acknowledged.

Such a member is removed. It notices, sets its log aside and joins again as a new member (foundations: Rolled-back or
wiped disk).
"""

from __future__ import annotations

import logging
from typing import Final

import trio

from swarmd.errors import FailedPrecondition
from swarmd.manager.members import Members
from swarmd.manager.raft_driver import RaftDriver

log = logging.getLogger(__name__)

LOOK_S: Final = 5.0
"""Between looks: consensus notices it, and has no event for it."""


class DiskWatch:
    """One instance per reign."""

    def __init__(self, driver: RaftDriver, members: Members) -> None:
        self._driver = driver
        self._members = members
        self._told: set[int] = set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled. Raises `Unavailable` once this manager does not lead."""
        task_status.started()
        while True:
            for progress in self._driver.core.progress():
                if progress.is_rolled_back:
                    await self._remove(progress.member_id)
            await trio.sleep(LOOK_S)

    async def _remove(self, member_id: int) -> None:
        member = self._driver.configuration.member(member_id)
        if member is None:
            return
        if member_id not in self._told:
            self._told.add(member_id)
            log.error("manager %s has less on its disk than it acknowledged: it has to join anew", member.node_id)
        try:
            await self._members.remove_member(member.node_id)
        except FailedPrecondition as refusal:
            log.warning("manager %s stays a member for now: %s", member.node_id, refusal)
