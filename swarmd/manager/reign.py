"""A reign: one nursery that holds every loop of the leader, and ends all of them when the lead is lost."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import trio

from swarmd.errors import SwarmError, Unavailable
from swarmd.manager.raft_driver import RaftDriver

log = logging.getLogger(__name__)

RESTART_S_MIN: Final = 1.0
"""Between the crash of a leader's loop and its next start; doubles with each crash in a row ..."""
RESTART_S_MAX: Final = 60.0
"""... up to this."""
SOUND_S: Final = 60.0
"""A loop that ran for so long before it crashed begins counting anew."""
CRASHES_BEFORE_HAND_OVER: Final = 3
"""Crashes of one loop in a row after which another machine is given a try."""
HAND_OVER_PAUSE_S: Final = 600.0
"""Not again within this: what fells the loop on every leader must not send the lead round in circles."""


class Component(Protocol):
    """Something that runs while this manager leads."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None: ...


MakeComponent = Callable[[], Component]
"""Makes a fresh one: what the last one knew is not believed."""


class Leadership:
    """Runs a fresh set of components for each term that this manager leads.

    A component that crashes is started again after a growing pause, and the others go on meanwhile: one poisoned object
    must not cost every node its session. Only losing the lead ends them all.

    Args:
        components: their makers for a reign of this term, in start order; each is started (it has read the state)
            before the next.
        ended: told when a reign is over.
    """

    def __init__(
        self,
        driver: RaftDriver,
        components: Callable[[int], Sequence[MakeComponent]],
        *,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self._driver = driver
        self._components = components
        self._ended = ended
        self._handed_over_at = -math.inf

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
                for make in self._components(term):
                    await nursery.start(self._keep_running, make, term)
        finally:
            self._ended()
        log.info("term %d: this manager does not lead any more", term)

    def _leads(self, term: int) -> bool:
        return self._driver.is_leading and self._driver.core.term == term

    async def _end_with_the_term(self, term: int, scope: trio.CancelScope) -> None:
        while self._leads(term):
            await self._driver.changed.wait()
        scope.cancel()

    async def _keep_running(self, make: MakeComponent, term: int, *, task_status: trio.TaskStatus[None]) -> None:
        """Run one component, started anew after each crash. Started once the first try is, or has crashed."""
        crashes = 0
        tell_started: Callable[[], None] | None = task_status.started
        while True:
            component = make()
            began = trio.current_time()
            try:
                async with trio.open_nursery() as nursery:
                    await nursery.start(component.run)
                    if tell_started is not None:
                        tell_started()
                        tell_started = None
            except* Exception as group:  # noqa: BLE001 - like an object in a control loop: parked with its error, or each leader would fall in turn
                crashes = 1 if trio.current_time() - began >= SOUND_S else crashes + 1
                self._tell(component, group, crashes, term)
            if tell_started is not None:
                tell_started()
                tell_started = None
            if crashes >= CRASHES_BEFORE_HAND_OVER:
                self._hand_over(term)
            await trio.sleep(_pause_s(crashes))

    def _tell(self, component: Component, group: BaseExceptionGroup[Exception], crashes: int, term: int) -> None:
        """Log a crash. Losing the lead ends loops in the middle of a change: that is no crash."""
        if not self._leads(term):
            return
        name, pause_s = type(component).__name__, _pause_s(crashes)
        if group.split(Unavailable)[1] is None:
            log.warning("%s was interrupted, next start in %.0f s: %s", name, pause_s, _leaf(group))
        else:
            log.error("%s crashed (%d in a row), next start in %.0f s", name, crashes, pause_s, exc_info=group)

    def _hand_over(self, term: int) -> None:
        """Let another manager try, once in a while: perhaps it is this machine that is at fault."""
        if not self._leads(term) or trio.current_time() - self._handed_over_at < HAND_OVER_PAUSE_S:
            return
        self._handed_over_at = trio.current_time()
        try:
            target = self._driver.transfer_leadership()
        except SwarmError as error:
            log.warning("nobody to hand over to: %s", error)
        else:
            log.warning("handing the lead to member %x, because a loop keeps crashing here", target)


def _pause_s(crashes: int) -> float:
    return min(RESTART_S_MAX, RESTART_S_MIN * 2.0 ** min(max(crashes - 1, 0), 10))


def _leaf(group: BaseExceptionGroup[Exception]) -> BaseException:
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    return inner
