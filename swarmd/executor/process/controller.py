"""The contract's controller over a `Supervision`."""

from __future__ import annotations

import trio

from swarmd.executor.contract import TaskError, TemporaryTaskError
from swarmd.executor.process.plan import encode_plan, stop_policy
from swarmd.executor.process.supervision import Supervision
from swarmd.executor.process.task_files import TaskFiles
from swarmd.model import ContainerStatus, Task


class ProcessController:
    """Runs one task as a process. Holds nothing that a new instance for the same directory would not find."""

    def __init__(self, task: Task, files: TaskFiles, *, search_path: str, limiter: trio.CapacityLimiter) -> None:
        self._task = task
        self._files = files
        self._search_path = search_path
        self._limiter = limiter
        self._supervision = Supervision(files, limiter)
        self._stop_policy = stop_policy(task.spec.container)

    async def prepare(self) -> None:
        """Write down what to become. Raises `TaskError` for an unknown user or root directory."""

        def prepare() -> None:
            self._files.prepare(encode_plan(self._task, path=self._search_path))

        try:
            await trio.to_thread.run_sync(prepare, limiter=self._limiter)
        except TaskError:
            raise
        except OSError as error:
            raise TemporaryTaskError(f"its files: {error}") from error

    async def start(self) -> None:
        """At most once, whoever asks and however often. Raises `TaskError` ("exec x: not found") if exec fails."""
        await self._supervision.start()

    async def wait(self) -> None:
        """Its exit: 0 returns; else `TaskExited` with 1..255, 128 + signal, or 137 if the status was lost."""
        await self._supervision.wait()

    async def shutdown(self) -> None:
        """The stop signal goes to every process of its session; after the grace period all of them are killed."""
        await self._supervision.stop(self._stop_policy)

    async def terminate(self) -> None:
        await self._supervision.kill()

    async def remove(self) -> None:
        """Stop it and delete its directory, log included."""
        await self._supervision.stop(self._stop_policy)
        try:
            await trio.to_thread.run_sync(self._files.delete, limiter=self._limiter)
        except OSError as error:
            raise TemporaryTaskError(f"its files: {error}") from error

    async def status(self) -> ContainerStatus | None:
        return await self._supervision.status()

    async def aclose(self) -> None:
        """Nothing to release: pidfds live only as long as the call that opened them."""
