"""A reign: one nursery that holds every loop of the leader, and ends all of them when the lead is lost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import trio

from swarmd.errors import SwarmError
from swarmd.manager.raft_driver import RaftDriver

log = logging.getLogger(__name__)

RESTART_S: Final = 1.0
"""Between the crash of a leader's loop and the next try, here or elsewhere."""


class Component(Protocol):
    """Something that runs while this manager leads."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None: ...


class Leadership:
    """Runs a fresh set of components for each term that this manager leads.

    Args:
        components: makes them, in start order; each is started (it has read the state) before the next.
    """

    def __init__(self, driver: RaftDriver, components: Callable[[], Sequence[Component]]) -> None:
        self._driver = driver
        self._components = components

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Reign whenever this manager leads, until cancelled."""
        task_status.started()
        while True:
            while not self._driver.is_leading:
                await self._driver.changed.wait()
            await self._reign(self._driver.core.term)

    async def _reign(self, term: int) -> None:
        log.info("term %d: this manager leads", term)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end_with_the_term, term, nursery.cancel_scope)
                for component in self._components():
                    await nursery.start(component.run)
        except* SwarmError as group:
            # Losing the lead ends loops in the middle of a change: that is the normal end of a reign. Anything else
            # that a loop could not handle must not fell this manager: another one leads better.
            if self._leads(term):
                log.exception("a loop of the leader failed; handing over", exc_info=group)
                await self._hand_over()
        log.info("term %d: this manager does not lead any more", term)

    def _leads(self, term: int) -> bool:
        return self._driver.is_leading and self._driver.core.term == term

    async def _end_with_the_term(self, term: int, scope: trio.CancelScope) -> None:
        while self._leads(term):
            await self._driver.changed.wait()
        scope.cancel()

    async def _hand_over(self) -> None:
        try:
            self._driver.transfer_leadership()
        except SwarmError as error:
            log.warning("nobody to hand over to: %s", error)
        await trio.sleep(RESTART_S)
