"""A leader whose disk failed hands the lead over before it stops: that needs nothing of its own disk."""

from __future__ import annotations

import logging
from typing import Final

import trio

from swarmd.errors import SwarmError
from swarmd.raft import RaftCore
from swarmd.storage.errors import StorageFailed, StorageFull

log = logging.getLogger(__name__)

FAREWELL_S_MAX: Final = 2.0
"""A follower that answers takes milliseconds."""


class Farewell:
    """Between the failure of the disk and the end of the driver.

    Meanwhile nothing is reported durable here, so this member votes for nobody and acknowledges nothing; what it leads
    is committed by the others or not at all.
    """

    def __init__(self, core: RaftCore) -> None:
        self._core = core
        self._failure: StorageFailed | None = None
        self._until = 0.0

    def begin(self, error: BaseException) -> None:
        """The log cannot be written any more. Hand over, if there is something to hand over and somebody to take it."""
        kind = StorageFull if isinstance(error, StorageFull) else StorageFailed
        self._failure = kind(f"the log cannot be written any more: {error}")
        self._failure.__cause__ = error
        self._until = trio.current_time()
        if not self._core.is_leader:
            return
        try:
            heir = self._core.transfer_leadership()
        except SwarmError as refusal:
            log.warning("nobody to hand the lead to: %s", refusal)
        else:
            log.warning("handing the lead to member %x: %s", heir, error)
            self._until += FAREWELL_S_MAX

    def raise_if_over(self) -> None:
        """Raise `StorageFailed` once nothing is left to do here."""
        if self._failure is not None and (not self._core.is_leader or trio.current_time() >= self._until):
            raise self._failure
