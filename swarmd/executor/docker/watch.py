"""What happens to this node's containers, from one events stream, told to whoever waits for one of them.

Level-triggered: an event only says that looking again is worth it, and after each reconnect everything is. So nothing
is lost with a stream, and no waiter holds a thread.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import trio

from swarmd.executor.contract import TaskError, TemporaryTaskError
from swarmd.executor.docker.engine import Engine, Stream
from swarmd.executor.docker.plan import TASK_ID_LABEL, Owner

log = logging.getLogger(__name__)

RECONNECT_DELAY_MIN_S: Final = 0.2
RECONNECT_DELAY_MAX_S: Final = 5.0
PROBE_S_MAX: Final = 5.0
"""An engine that does not say who it is within this time counts as gone."""
EVENTS: Final = ["die", "destroy"]
"""What ends a container, or its record; nothing else needs a second look."""


class Watch:
    """The engine as it stands: whether it answers, what it last said of itself, whose container changed."""

    def __init__(self, engine: Engine, owner: Owner, *, rng: random.Random) -> None:
        self._engine = engine
        self._filters = {**owner.filters, "type": ["container"], "event": EVENTS}
        self._rng = rng
        self._changes: dict[str, trio.Event] = {}
        self._news = trio.Event()
        self.is_connected = False
        self.info: Mapping[str, Any] = {}
        """What the engine last said of itself; empty until it was met."""
        self.problem = "it was not asked yet"
        """Why it is not connected."""

    def changed(self, task_id: str) -> trio.Event:
        """Set once this task's container may have changed. Get it before you look at the container."""
        return self._changes.setdefault(task_id, trio.Event())

    def forget(self, task_id: str) -> None:
        """Nobody waits for it any more."""
        self._changes.pop(task_id, None)

    async def news(self) -> None:
        """Returns when the engine came or went."""
        await self._news.wait()

    async def run(self) -> None:
        """Follow the events until cancelled; reconnect whenever the engine is gone."""
        failures = 0
        while True:
            try:
                stream = await self._connect()
                failures = 0
                await self._follow(stream)
                self._lost("its events ended")
            except TaskError as error:
                self._lost(str(error))
            failures += 1
            delay_s = min(RECONNECT_DELAY_MIN_S * 2.0 ** min(failures - 1, 10), RECONNECT_DELAY_MAX_S)
            await trio.sleep(delay_s * self._rng.uniform(0.5, 1.0))

    async def probe(self) -> None:
        """Ask the engine who it is. Raises `TemporaryTaskError` if it does not say within 5 s."""
        with trio.move_on_after(PROBE_S_MAX):
            self.info = await self._engine.info()
            return
        raise TemporaryTaskError(f"the engine did not answer within {PROBE_S_MAX:.0f} s")

    async def _connect(self) -> Stream:
        await self.probe()
        # From before we ask: the engine says "here it comes" a moment before it begins to listen for events.
        stream = await self._engine.open_events(self._filters, _instant(self.info))
        self.is_connected, self.problem = True, ""
        log.info("the engine is there: version %s", self.info.get("ServerVersion", "unknown"))
        self._announce()
        for task_id in tuple(self._changes):
            self._touch(task_id)
        return stream

    async def _follow(self, stream: Stream) -> None:
        """Until the stream ends. Cancelled: the stream is cut, which ends the thread."""

        def read() -> None:
            with suppress(OSError):
                for event in stream:
                    task_id = _task_of(event)
                    if task_id:
                        trio.from_thread.run_sync(self._touch, task_id)

        ended = trio.Event()

        async def read_in_thread() -> None:
            try:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(read, limiter=trio.CapacityLimiter(1))
            finally:
                ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_in_thread)
            try:
                await ended.wait()
            finally:
                stream.abort()

    def _touch(self, task_id: str) -> None:
        event = self._changes.pop(task_id, None)
        if event is not None:
            event.set()

    def _lost(self, reason: str) -> None:
        if self.is_connected or self.problem != reason:
            log.warning("the engine is gone: %s", reason)
        was_connected, self.is_connected, self.problem = self.is_connected, False, reason
        if was_connected:
            self._announce()

    def _announce(self) -> None:
        self._news.set()
        self._news = trio.Event()


def _task_of(event: Mapping[str, Any]) -> str:
    actor = event.get("Actor") or {}
    return str((actor.get("Attributes") or {}).get(TASK_ID_LABEL, ""))


def _instant(info: Mapping[str, Any]) -> float:
    """The engine's clock, as it told it with its description; 0 (everything it remembers) if it told none."""
    with suppress(ValueError):
        return datetime.fromisoformat(str(info.get("SystemTime", ""))).timestamp()
    return 0.0
