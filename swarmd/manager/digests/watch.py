"""The leader's part: a member whose state diverges is removed, which makes it join anew under another member id.

It notices by itself that it is out, sets its log aside whole and rebuilds its state from what the others send. A leader
that is itself in the minority hands over to the majority, which then removes it. What cannot be decided, or not be
carried out without endangering the quorum, is an alarm, and nothing is removed.
"""

from __future__ import annotations

import logging
import math
from typing import Final

import trio

from swarmd.errors import FailedPrecondition
from swarmd.manager.digests.board import DigestBoard
from swarmd.manager.digests.votes import Divergence, Findings
from swarmd.manager.members import Members
from swarmd.manager.raft_driver import RaftDriver

log = logging.getLogger(__name__)

LOOK_S: Final = 5.0
"""Between looks while something is wrong: who answers, and so what is safe, has no event."""
PAUSE_S: Final = 1.0
"""Between looks at all: a busy swarm passes a hundred agreed indexes a second, and a look takes 0.2 ms."""
SETTLE_S: Final = 10.0
"""Members that differ are given so long until others have told theirs as well."""
AGAIN_S: Final = 600.0
"""A node that diverges again so soon stays, with an alarm: rejoining did not help it."""
REMOVALS_MAX: Final = 3
"""... nor is it removed more often than this by one manager: each time leaves a log on its disk as evidence."""


class DigestWatch:
    """One instance per reign.

    Args:
        removals: when which node was removed; outlives the reign.
    """

    def __init__(
        self, driver: RaftDriver, members: Members, board: DigestBoard, removals: dict[str, list[float]]
    ) -> None:
        self._driver = driver
        self._members = members
        self._board = board
        self._removals = removals
        self._told: set[int] = set()
        self._undecided_since = math.inf

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Judge until cancelled. Raises `Unavailable` once this manager does not lead."""
        task_status.started()
        try:
            while True:
                findings = self._board.findings()
                self._sound(await self._act(findings))
                await trio.sleep(PAUSE_S)
                is_well = not findings.diverging and not findings.undecided_at
                with trio.move_on_after(math.inf if is_well else LOOK_S):
                    await self._board.news.wait()
        finally:
            self._board.alarm = ""  # the next leader sees for itself

    async def _act(self, findings: Findings) -> str:
        """Do what the findings ask for. Returns what remains wrong."""
        own = findings.of_member(self._driver.core.member_id)
        if own is not None:
            return self._step_down(own)
        alarms = [await self._remove(found) for found in findings.diverging]
        alarms.append(self._undecided(findings))
        return "; ".join(filter(None, alarms))

    # -- a member in the minority ------------------------------------------------------------------------------

    async def _remove(self, found: Divergence) -> str:
        member = self._driver.configuration.member(found.member_id)
        if member is None:
            return ""
        name = f"manager {member.node_id} (member {member.member_id:x})"
        if found.member_id not in self._told:
            self._told.add(found.member_id)
            log.error(
                "%s diverges from %s: another %s at entry %d; it has to join anew",
                *(name, _names(found.majority), found.of, found.index),
            )
        removals = self._removals.setdefault(member.node_id, [])
        wrong = f"{name} diverges at entry {found.index}"
        if len(removals) >= REMOVALS_MAX:
            return f"{wrong}, as after each of {REMOVALS_MAX} times that it joined anew, and stays: demote it"
        if removals and trio.current_time() - removals[-1] < AGAIN_S:
            return f"{wrong}, soon after it joined anew, and stays for now"
        try:
            await self._members.remove_exactly(member)
        except FailedPrecondition as refusal:
            return f"{wrong} and stays for now: {refusal}"
        removals.append(trio.current_time())
        return ""

    # -- this member in the minority ---------------------------------------------------------------------------

    def _step_down(self, found: Divergence) -> str:
        right = {*found.majority} & {*self._driver.configuration.voters}
        heirs = [p for p in self._driver.core.progress() if p.member_id in right and p.is_active]
        best = max(heirs, key=lambda p: (p.match, -p.member_id), default=None)
        wrong = f"the leader diverges from {_names(found.majority)}: another {found.of} at entry {found.index}"
        try:
            if best is not None:
                self._driver.transfer_leadership(best.member_id)
                return f"{wrong}; the lead is handed to one of these"
        except FailedPrecondition as refusal:
            log.debug("handing over: %s", refusal)
        return f"{wrong}, and none of those can take the lead"

    # -- nobody knows who is right -----------------------------------------------------------------------------

    def _undecided(self, findings: Findings) -> str:
        now = trio.current_time()
        if not findings.undecided_at:
            self._undecided_since = math.inf
            return ""
        self._undecided_since = min(self._undecided_since, now)
        if now - self._undecided_since < SETTLE_S:
            return ""
        sides = " against ".join(_names(side) for side in findings.sides)
        return f"the managers' states differ at entry {findings.undecided_at}, and no side is a quorum: {sides}"

    def _sound(self, alarm: str) -> None:
        if alarm and alarm != self._board.alarm:
            log.error("%s", alarm)
        elif self._board.alarm and not alarm:
            log.warning("no alarm any more: %s", self._board.alarm)
        self._board.alarm = alarm


def _names(members: tuple[int, ...]) -> str:
    return f"member{'' if len(members) == 1 else 's'} {', '.join(f'{m:x}' for m in members)}"
