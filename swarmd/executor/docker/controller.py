"""The contract's controller over a container."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Final

import trio

from swarmd.executor.contract import TaskError, TaskExited, TemporaryTaskError
from swarmd.executor.docker.engine import Engine, NameTaken, NoSuchImage
from swarmd.executor.docker.plan import Container, Owner, create_body, is_of
from swarmd.executor.docker.pulls import Images
from swarmd.executor.docker.watch import Watch
from swarmd.model import ContainerStatus, Task

KILL_S_MAX: Final = 30.0
"""SIGKILL is immediate unless the kernel, or the engine, waits for a disk."""
EXIT_KILLED: Final = 128 + signal.SIGKILL


class DockerController:
    """Runs one task as one container, found by its name and recognised by its labels.

    Holds nothing that an instance of a later daemon would not find, except what was last seen of the container, which
    counts only as long as the engine has told of no change.
    """

    def __init__(self, task: Task, owner: Owner, engine: Engine, watch: Watch, images: Images) -> None:
        self._task = task
        self._owner = owner
        self._engine = engine
        self._watch = watch
        self._images = images
        self._seen: Container | None = None
        self._changed: trio.Event | None = None
        """What tells that `_seen` is out of date."""
        self._was_stopped = False

    async def prepare(self) -> None:
        """The image and the container are there. Raises `TaskError` with the words of the registry or the engine."""
        if self._was_stopped or await self._look() is not None:
            return
        await self._images.ensure(self._task.spec.container.image)
        try:
            await self._create()
        except NoSuchImage:
            # Somebody removed it since it was last seen here.
            self._images.forget(self._task.spec.container.image)
            await self._images.ensure(self._task.spec.container.image)
            try:
                await self._create()
            except NoSuchImage as error:
                raise TaskError(str(error)) from error

    async def start(self) -> None:
        """At most once in the container's life. Raises `TaskError` with the engine's words if it cannot run."""
        if self._was_stopped:
            raise TaskError("it was stopped before it started")
        container = await self._look()
        if container is None:
            raise TaskError("it was not prepared")
        if not container.has_started:
            self._distrust()
            await self._engine.start(container.id)

    async def wait(self) -> None:
        """Its exit: 0 returns; else `TaskExited` with 1..255, or 137 if it is gone and nobody knows how it ended."""
        container = await self._look()
        if container is None and self._seen is None and not self._was_stopped:
            raise TaskError("nothing runs it")
        container = await self._until(lambda c: not c.is_running)
        if container is None:
            words = "stopped before it started" if self._was_stopped else "removed behind our back"
            raise TaskExited(EXIT_KILLED, f"its container was {words}")
        _raise_outcome(container)

    async def shutdown(self) -> None:
        """The stop signal, then after the grace period SIGKILL. One that never started is removed instead."""
        container = await self._look()
        if container is None or not container.has_started:
            self._was_stopped = True
            await self._remove(container)
        elif container.is_running:
            await self._stop(container)

    async def terminate(self) -> None:
        container = await self._look()
        if container is not None and container.is_running:
            await self._kill(container)

    async def remove(self) -> None:
        """Stop it and remove it with its anonymous volumes."""
        container = await self._look()
        if container is not None and container.is_running:
            await self._stop(container)
        await self._remove(container)

    async def status(self) -> ContainerStatus | None:
        """None if it never started, or is gone."""
        container = await self._look()
        if container is None or not container.has_started:
            return None
        return ContainerStatus(
            container_id=container.id,
            pid=container.pid,
            exit_code=None if container.is_running else container.exit_code,
        )

    async def aclose(self) -> None:
        """Nobody waits for it here any more."""
        self._watch.forget(self._task.id)
        await trio.lowlevel.checkpoint()

    # -- what is there ----------------------------------------------------------------------------------------------

    async def _look(self) -> Container | None:
        """The container as it is, asked for only if it may have changed. Raises `TaskError` for a stranger's."""
        known, changed = self._seen, self._changed
        is_certain = changed is not None and not changed.is_set() and self._watch.is_connected
        if known is not None and is_certain:
            await trio.lowlevel.checkpoint()
            return known
        self._distrust()
        changed = self._watch.changed(self._task.id)
        container = await self._engine.inspect(self._task.name)
        if container is not None and not is_of(container, self._task, self._owner):
            raise TaskError(f"a container that is not this swarm's has its name, {self._task.name}")
        if container is not None:
            # Both or neither: a look that was cancelled has seen nothing.
            self._seen, self._changed = container, changed
        return container

    def _distrust(self) -> None:
        """What was seen is about to change by our own doing, of which no event tells."""
        self._changed = None

    async def _until(self, holds: Callable[[Container], bool]) -> Container | None:
        """The container once `holds`; None once it is gone. Holds no thread meanwhile."""
        while True:
            changed = self._watch.changed(self._task.id)
            self._distrust()
            container = await self._look()
            if container is None or holds(container):
                return container
            await changed.wait()

    # -- what is done to it ------------------------------------------------------------------------------------------

    async def _create(self) -> None:
        self._distrust()
        try:
            await self._engine.create(self._task.name, create_body(self._task, self._owner))
        except NameTaken:
            # Ours, made by a call whose answer was lost: `_look` refuses anybody else's.
            if await self._look() is None:
                raise TemporaryTaskError(f"the name {self._task.name} is being freed") from None

    async def _stop(self, container: Container) -> None:
        await self._engine.kill(container.id, container.stop_signal)
        with trio.move_on_after(self._task.spec.container.stop_grace_period_s):
            await self._until(lambda c: not c.is_running)
            return
        await self._kill(container)

    async def _kill(self, container: Container) -> None:
        await self._engine.kill(container.id, "SIGKILL")
        with trio.move_on_after(KILL_S_MAX):
            await self._until(lambda c: not c.is_running)
            return
        raise TemporaryTaskError(f"SIGKILL did not end it within {KILL_S_MAX:.0f} s")

    async def _remove(self, container: Container | None) -> None:
        self._distrust()
        if container is not None:
            await self._engine.remove(container.id)


def _raise_outcome(container: Container) -> None:
    code = container.exit_code
    if container.is_out_of_memory:
        limit = f" (limit {container.memory_bytes >> 20} MiB)" if container.memory_bytes else ""
        raise TaskExited(code or EXIT_KILLED, f"killed: out of memory{limit}")
    if not container.has_started:
        raise TaskError(container.error or "nothing runs it")
    if code > 128 and code - 128 in signal.valid_signals():
        raise TaskExited(code, f"killed by {_signal_name(code - 128)} (exit status {code})")
    if code:
        raise TaskExited(code, f"exit status {code}" + (f": {container.error}" if container.error else ""))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
