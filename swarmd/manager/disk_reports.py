"""What the managers tell each other of their disks. Kept in memory by each one, like reachability; never stored."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import trio

from swarmd.errors import SwarmError, Unauthenticated
from swarmd.manager.disk_health import DiskHealth
from swarmd.transport.connection import Call, Connection
from swarmd.wire.disk import DiskCondition, DiskReport
from swarmd.wire.methods import RAFT_DISK
from swarmd.wire.peer import Nothing

log = logging.getLogger(__name__)

REPEAT_S: Final = 10.0
"""While something is wrong: a manager that was restarted has forgotten it."""
REMEMBERED_S: Final = 35.0
"""Three reports that did not come."""
CALL_S_MAX: Final = 5.0


class Dial(Protocol):
    """Opens a connection of class `control` to an address."""

    def __call__(self, address: str) -> AbstractAsyncContextManager[Connection]: ...


class DiskReports:
    """Tells the others of this manager's disk, and knows what they told.

    Args:
        addresses: of the other managers, as far as this node knows. It must not need the log.
    """

    def __init__(
        self, health: DiskHealth, own_node_id: str, addresses: Callable[[], Sequence[str]], dial: Dial
    ) -> None:
        self._health = health
        self._own_node_id = own_node_id
        self._addresses = addresses
        self._dial = dial
        self._told: dict[str, tuple[float, DiskReport]] = {}

    def of(self, node_id: str) -> DiskReport | None:
        """What is wrong with the disk of this node's manager; None if nothing is known to be."""
        if node_id == self._own_node_id:
            report = self._health.report
        else:
            heard_at, report = self._told.get(node_id, (-math.inf, DiskReport()))
            if trio.current_time() - heard_at > REMEMBERED_S:
                return None
        return report if report.condition is not DiskCondition.WELL else None

    async def receive(self, call: Call, request: DiskReport) -> Nothing:
        """Handler of `raft.disk`: the caller speaks of its own disk, and of no other."""
        identity = call.caller.identity
        if identity is None:
            raise Unauthenticated("only a manager tells of its disk")
        self._told[identity.node_id] = (trio.current_time(), request)
        return Nothing()

    async def run(self) -> None:
        """Tell until cancelled: each change at once, and what is wrong again and again."""
        told = DiskCondition.WELL
        while True:
            report, changed = self._health.report, self._health.changed
            if report.condition is not DiskCondition.WELL or told is not DiskCondition.WELL:
                await self._tell_everybody(report)
            told = report.condition
            with trio.move_on_after(math.inf if told is DiskCondition.WELL else REPEAT_S):
                await changed.wait()

    async def _tell_everybody(self, report: DiskReport) -> None:
        async with trio.open_nursery() as nursery:
            for address in self._addresses():
                nursery.start_soon(self._tell, address, report)

    async def _tell(self, address: str, report: DiskReport) -> None:
        try:
            with trio.move_on_after(CALL_S_MAX):
                async with self._dial(address) as connection:
                    await connection.call(RAFT_DISK, report)
        except SwarmError as error:
            log.debug("could not tell %s of this disk: %s", address, error)
