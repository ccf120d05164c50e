"""Images: asked for once, however many tasks want them, and pulled only if they are not there."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import trio

from swarmd.executor.contract import TaskError, TemporaryTaskError
from swarmd.executor.docker.complaints import pull_error
from swarmd.executor.docker.engine import PULLS_MAX, Engine, Stream

log = logging.getLogger(__name__)

PULL_S_MAX: Final = 15 * 60.0
"""A pull takes no longer. (One that is silent for two minutes ends sooner: `engine.PULL_SILENCE_S`.)"""


class _Pull:
    """One image on its way, and how many tasks wait for it."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.done = trio.Event()
        self.waiting = 0
        self.error: TaskError | None = None


class Images:
    """The images of one engine. `run` must be running for pulls to go on."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._slots = trio.CapacityLimiter(PULLS_MAX)
        self._present: set[str] = set()
        self._pulls: dict[str, _Pull] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry pulls until cancelled, which ends them."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    def forget(self, reference: str) -> None:
        """It was seen here, and is not there any more."""
        self._present.discard(reference)

    async def ensure(self, reference: str) -> None:
        """Return once the image is there. Raises `TaskError` with the registry's words, temporary where another try may
        help. `Cancelled`: the pull goes on while anybody else waits for it."""
        if reference in self._present:
            return
        pull = self._pulls.get(reference)
        if pull is None:
            pull = self._begin(reference)
        pull.waiting += 1
        try:
            await pull.done.wait()
        finally:
            pull.waiting -= 1
            if not pull.waiting:
                self._give_up(reference, pull)
        if pull.error is not None:
            raise pull.error.with_traceback(None)

    def _begin(self, reference: str) -> _Pull:
        assert self._nursery is not None, "the executor does not run"
        pull = self._pulls[reference] = _Pull()
        self._nursery.start_soon(self._carry, reference, pull, name=f"image {reference}")
        return pull

    def _give_up(self, reference: str, pull: _Pull) -> None:
        """Nobody wants it any more. Whoever comes now begins anew, and does not wait for one that was cancelled."""
        pull.scope.cancel()
        if self._pulls.get(reference) is pull:
            del self._pulls[reference]

    async def _carry(self, reference: str, pull: _Pull) -> None:
        try:
            pull.error = TemporaryTaskError(f"image {reference}: the pull was given up")
            with pull.scope:
                await self._fetch(reference)
                self._present.add(reference)
                pull.error = None
        except TaskError as error:
            pull.error = error
        finally:
            if self._pulls.get(reference) is pull:
                del self._pulls[reference]
            pull.done.set()

    async def _fetch(self, reference: str) -> None:
        if await self._engine.has_image(reference):
            return
        log.info("image %s: pulling", reference)
        async with self._slots:
            with trio.move_on_after(PULL_S_MAX):
                await self._pull(reference)
                log.info("image %s: pulled", reference)
                return
        raise TemporaryTaskError(f"image {reference}: not pulled within {PULL_S_MAX / 60:.0f} min")

    async def _pull(self, reference: str) -> None:
        stream = await self._engine.open_pull(reference)
        words = await _read_to_end(stream)
        if words:
            raise pull_error(reference, words)


async def _read_to_end(stream: Stream) -> str:
    """What went wrong, in the registry's words; empty if nothing did. Cancelled: the pull is cut."""
    result: list[str] = []
    ended = trio.Event()

    def read() -> str:
        last = ""
        try:
            for record in stream:
                last = _complaint(record) or last
        except OSError as error:
            return last or f"the pull stalled or was cut: {error}: i/o timeout"
        return last

    async def read_in_thread() -> None:
        try:
            with trio.CancelScope(shield=True):
                result.append(await trio.to_thread.run_sync(read, limiter=trio.CapacityLimiter(1)))
        finally:
            ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_in_thread)
        try:
            await ended.wait()
        finally:
            stream.abort()
    return result[0]


def _complaint(record: Mapping[str, Any]) -> str:
    detail = record.get("errorDetail") or {}
    return str(record.get("error") or detail.get("message") or "")
