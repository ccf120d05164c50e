"""The process executor: tasks as plain processes on this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import trio

from swarmd.executor.contract import TaskError, TemporaryTaskError
from swarmd.executor.process.controller import ProcessController
from swarmd.executor.process.plan import SYSTEM_PATH, check, decode_stop
from swarmd.executor.process.supervision import Supervision
from swarmd.executor.process.task_files import DIRECTORY_MODE, TaskFiles
from swarmd.model import NodeDescription, Platform, Resources, Task

ENGINE_VERSION: Final = "process/1"
FEATURES: Final = ("executor.process",)
FILE_THREADS: Final = 8
"""Threads for the tasks' files, so that a slow disk starves nobody else's."""


class ProcessExecutor:
    """Runs each task under a supervisor of its own, with its files in `directory`/TASK ID.

    `hostname` replaces the machine's own; `search_path` is the PATH of tasks that set none (default: ours).
    """

    def __init__(
        self,
        directory: Path,
        *,
        hostname: str = "",
        search_path: str = "",
        features: tuple[str, ...] = FEATURES,
    ) -> None:
        self._directory = directory.absolute()  # supervisors start in another directory
        self._hostname = hostname
        self._search_path = search_path or os.environ.get("PATH", "") or SYSTEM_PATH
        self._features = features
        self._limiter = trio.CapacityLimiter(FILE_THREADS)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Nothing to watch over: supervisors outlive us."""
        task_status.started()
        await trio.sleep_forever()

    async def description_changed(self) -> None:
        """Never."""
        await trio.sleep_forever()

    async def describe(self) -> NodeDescription:
        """CPUs that this process may use, the machine's memory, `process/1`."""
        system = os.uname()
        return NodeDescription(
            hostname=self._hostname or socket.gethostname(),
            platform=Platform(architecture=system.machine, os=system.sysname.lower()),
            resources=Resources(
                nano_cpus=len(os.sched_getaffinity(0)) * 1_000_000_000,
                memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            ),
            engine_version=ENGINE_VERSION,
            features=self._features,
        )

    def controller(self, task: Task) -> ProcessController:
        """Raises `TaskError`: no command, an unknown stop signal, limits that cannot be enforced."""
        check(task)
        files = TaskFiles(self._directory / task.id)
        return ProcessController(task, files, search_path=self._search_path, limiter=self._limiter)

    async def reap(self, known_task_ids: Iterable[str]) -> None:
        """Stop and delete what is here and not in `known_task_ids`, all at once; one that fails hinders no other.

        `known_task_ids` is read after the directory is listed, so a live view protects tasks that arrive meanwhile.
        Raises the first `TaskError`.
        """
        names = await trio.to_thread.run_sync(self._names, limiter=self._limiter)
        known = set(known_task_ids)
        errors: list[TaskError] = []
        async with trio.open_nursery() as nursery:
            for name in names:
                if name not in known:
                    nursery.start_soon(self._remove, TaskFiles(self._directory / name), errors)
        if errors:
            raise errors[0]

    def log_path(self, task_id: str) -> Path:
        """Where the task's output is."""
        return TaskFiles(self._directory / task_id).log_path

    async def _remove(self, files: TaskFiles, errors: list[TaskError]) -> None:
        try:
            policy = decode_stop(await trio.to_thread.run_sync(files.launch, limiter=self._limiter))
            await Supervision(files, self._limiter).stop(policy)
            await trio.to_thread.run_sync(files.delete, limiter=self._limiter)
        except OSError as error:
            errors.append(TemporaryTaskError(f"the files of {files.path.name}: {error}"))
        except TaskError as error:
            errors.append(error)

    def _names(self) -> list[str]:
        self._directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        return [entry.name for entry in os.scandir(self._directory) if entry.is_dir(follow_symlinks=False)]
