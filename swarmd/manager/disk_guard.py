"""Looks after the disk while the log on it is open: the space left, the write under way, and who should lead."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from swarmd.errors import FailedPrecondition, Unavailable
from swarmd.manager.disk_health import DiskHealth
from swarmd.manager.disk_space import critical_bytes
from swarmd.manager.raft_driver import RaftDriver
from swarmd.model import Availability
from swarmd.raft import ProgressView
from swarmd.storage.errors import StorageFailed
from swarmd.storage.reserve import Space, SpaceReserve, space_of
from swarmd.wire.disk import IN_SHORT, DiskCondition

log = logging.getLogger(__name__)

SPACE_S: Final = 5.0
"""Between looks at the space: no file system tells when it gets scarce."""
WRITES_S: Final = 0.5
"""Between looks at the write under way."""
STALL_S: Final = 2.0
"""A write that has not come back for so long has met a disk that hangs."""
RETRY_S: Final = 5.0
"""Before the lead is offered again: whoever was asked may not have taken it."""


class DiskGuard:
    """One instance for as long as the log is open.

    Args:
        directory: where the log is.
        may_lead: whether the disk of this node's manager is fit for a leader, as far as is known.
    """

    def __init__(
        self,
        driver: RaftDriver,
        health: DiskHealth,
        directory: Path,
        *,
        own_node_id: str,
        may_lead: Callable[[str], bool],
    ) -> None:
        self._driver = driver
        self._health = health
        self._directory = directory
        self._reserve = SpaceReserve(directory)
        self._own_node_id = own_node_id
        self._may_lead = may_lead
        self._offered_at = -RETRY_S

    async def run(self) -> None:
        """Look until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_at_space)
            nursery.start_soon(self._look_at_writes)

    async def _look_at_space(self) -> None:
        """In a task and a thread of its own: a disk that hangs lets nobody look."""
        while True:
            try:
                self._health.note_space(await trio.to_thread.run_sync(self._look, abandon_on_cancel=True))
            except StorageFailed as error:
                log.warning("%s", error)
            await trio.sleep(SPACE_S)

    def _look(self) -> Space:
        """Blocking. Sets the reserve aside again where that leaves enough."""
        space = space_of(self._directory)
        if not self._reserve.is_held and space.free >= self._reserve.size + 2 * critical_bytes(space.total):
            self._reserve.make()
            return space_of(self._directory)
        return space

    async def _look_at_writes(self) -> None:
        while True:
            self._health.note_stall(is_stalled=self._driver.disk_waits_s >= STALL_S)
            is_due = trio.current_time() - self._offered_at >= RETRY_S
            if is_due and self._driver.core.is_leader and not self._health.report.may_lead:
                self._hand_over()
            with trio.move_on_after(WRITES_S):
                await self._health.changed.wait()

    def _hand_over(self) -> None:
        self._offered_at = trio.current_time()
        why = IN_SHORT[self._health.report.condition]
        heir = self._heir()
        try:
            if heir:
                self._driver.transfer_leadership(heir)
                log.warning("%s: handing the lead to member %x", why, heir)
                return
        except (FailedPrecondition, Unavailable) as refusal:
            log.debug("handing over: %s", refusal)
        log.info("%s: this manager leads on, there is none that is better placed", why)

    def _heir(self) -> int:
        """The voter with the most of the log among those that answer and have a better disk; 0 if there is none."""
        progress = {view.member_id: view for view in self._driver.core.progress()}
        own = progress.get(self._driver.core.member_id)
        members = {m.member_id: m for m in self._driver.configuration.members if m.is_voter}
        fit = [
            view
            for view in progress.values()
            if view.member_id in members
            and view.is_active
            and not view.is_rolled_back
            and self._is_better(members[view.member_id].node_id, view, own)
        ]
        return max(fit, key=lambda p: (p.match, -p.member_id)).member_id if fit else 0

    def _is_better(self, node_id: str, view: ProgressView, own: ProgressView | None) -> bool:
        node = self._driver.state.node(node_id)
        is_drained = node is not None and node.spec.availability is Availability.DRAIN
        if node_id == self._own_node_id or is_drained or not self._may_lead(node_id):
            return False
        # Where one device hangs for all, the others' writes do not come back either, and nothing would be won.
        stalls = self._health.report.condition is DiskCondition.STALLED
        return not stalls or own is None or view.match > own.match
