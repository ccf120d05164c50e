"""The shape that level-triggered loops share: events -> dirty keys -> one look at each -> when to look again.

Events say only where to look. Everything is dirty at the start of a reign, and when events were lost. Of one key there
is one look, so one proposal, at a time. A key whose look fails is parked with its error logged and tried again with
back-off, so that a poisoned object neither fells the leader nor holds up the others.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import trio

from swarmd.errors import Conflict, SwarmError, Unavailable
from swarmd.manager.bell import Bell
from swarmd.manager.loops.dirty import DirtyKeys
from swarmd.manager.loops.feed import Feed
from swarmd.manager.proposer import Store
from swarmd.state.watch import Event, Route

log = logging.getLogger(__name__)

WORKERS: Final = 16
"""Keys looked at at the same time: enough to fill a group commit."""
RETRY_S_MIN: Final = 1.0
RETRY_S_MAX: Final = 60.0
CONFLICT_RETRY_S: Final = 0.1
"""A conflict says that others were busy with the same objects, not that anything is wrong."""


class KeyedWork(Protocol):
    """What one loop adds to the shape."""

    @property
    def name(self) -> str:
        """What a key is called in the log."""
        ...

    @property
    def routes(self) -> tuple[Route, ...]:
        """The events to listen to."""
        ...

    def all_keys(self) -> Iterable[str]:
        """Every key there is."""
        ...

    def keys_of(self, event: Event) -> Iterable[str]:
        """The keys that an event concerns."""
        ...

    async def look(self, key: str) -> float | None:
        """Bring `key` in order; when to look again (epoch seconds)."""
        ...


class KeyedLoop:
    """Runs a `KeyedWork`.

    Args:
        delay_s: how long a key's events are gathered before it is looked at.
    """

    def __init__(
        self, store: Store, work: KeyedWork, *, now: Callable[[], float], rng: random.Random, delay_s: float = 0.0
    ) -> None:
        self._store = store
        self._work = work
        self._now = now
        self._rng = rng
        self._delay_s = delay_s
        self._keys = DirtyKeys()
        self._bell = Bell()
        self._workers = trio.CapacityLimiter(WORKERS)
        self._failures: dict[str, int] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look at what is dirty until cancelled. Raises `Unavailable` (in a group) once this manager does not lead."""
        with Feed(self._store.state, self._work.routes) as feed:
            self._mark_everything()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hand_out, nursery)
                task_status.started()
                while True:
                    self._mark(await feed.next())

    def _mark_everything(self) -> None:
        now = trio.current_time()
        for key in self._work.all_keys():
            self._keys.mark(key, now)
        self._bell.ring()

    def _mark(self, events: list[Event] | None) -> None:
        if events is None:
            self._mark_everything()
            return
        now = trio.current_time()
        for event in events:
            for key in self._work.keys_of(event):
                if self._delay_s:
                    self._keys.mark_by(key, now + self._delay_s)
                else:
                    self._keys.mark(key, now)
        self._bell.ring()

    async def _hand_out(self, nursery: trio.Nursery) -> None:
        """Start a look at each ready key, as many at a time as there are workers."""
        while True:
            self._keys.ring_alarms(trio.current_time())
            key = self._keys.take()
            if key is None:
                with trio.move_on_at(self._keys.next_alarm):
                    await self._bell.wait()
                continue
            await self._workers.acquire_on_behalf_of(key)
            nursery.start_soon(self._look, key)

    async def _look(self, key: str) -> None:
        try:
            wake_at = await self._work.look(key)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - rule 6: one object in a control loop is parked with its error
            self._keys.park(key, trio.current_time() + self._back_off(key, error))
        else:
            self._failures.pop(key, None)
            alarm = None if wake_at is None else trio.current_time() + max(0.0, wake_at - self._now())
            self._keys.done(key, alarm)
        finally:
            self._workers.release_on_behalf_of(key)
            self._bell.ring()

    def _back_off(self, key: str, error: Exception) -> float:
        """Log why the key is parked; for how many seconds."""
        if isinstance(error, Conflict):
            log.debug("%s %s: %s", self._work.name, key, error)
            return CONFLICT_RETRY_S * (1 + self._rng.random())
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay_s: float = min(RETRY_S_MAX, RETRY_S_MIN * 2.0 ** min(failures - 1, 10)) * (0.75 + self._rng.random() / 2)
        if isinstance(error, SwarmError):
            log.error("%s %s failed, next try in %.1f s: %s", self._work.name, key, delay_s, error)
        else:
            log.error("%s %s failed, next try in %.1f s", self._work.name, key, delay_s, exc_info=error)
        return delay_s
