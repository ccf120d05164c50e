"""The contract every executor keeps; `tests/contract/executor` holds all of them to it.

Verbs are idempotent: "already so" is success. Errors are temporary, permanent, or an exit
(SwarmKit `agent/exec`; reference dispatch-agent-executor 5).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import trio

from swarmd.model import ContainerStatus, NodeDescription, Task


class TaskError(Exception):
    """Permanent: the task is REJECTED before STARTING, FAILED from there on."""


class TemporaryTaskError(TaskError):
    """Worth another try after a delay; the state stays."""


class TaskExited(TaskError):
    """It ran and exited with something else than 0, or by a signal (128 + number)."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Controller(Protocol):
    """What runs one task. One verb at a time; any verb may be cancelled and called again."""

    async def prepare(self) -> None:
        """Everything, so that `start` is immediate."""

    async def start(self) -> None:
        """Start it and return when it is up. Started before (also by an earlier daemon): success."""

    async def wait(self) -> None:
        """Until it exits: returns for 0, raises `TaskExited` else. Returns at once if it already exited."""

    async def shutdown(self) -> None:
        """Stop signal, grace period, kill. Nothing there or already stopped: success."""

    async def terminate(self) -> None:
        """Kill at once."""

    async def remove(self) -> None:
        """Stop it and free everything of it. Missing: success."""

    async def status(self) -> ContainerStatus | None:
        """What runs it; None if nothing does."""

    async def aclose(self) -> None:
        """Release memory and handles here; the task itself goes on."""


class Executor(Protocol):
    """A way to run tasks on this machine. While anything but `describe` is called, `run` must be running."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch over what runs the tasks until cancelled, which leaves them as they are. `started` at once, also while
        there is nothing to talk to: whatever that is comes and goes."""

    async def describe(self) -> NodeDescription:
        """What this machine offers. Called at start and every 20 s. Never fails: `engine_error` says why it takes no
        tasks."""

    async def description_changed(self) -> None:
        """Returns once `describe` may say something else than it last did; where nothing changes, never."""

    def controller(self, task: Task) -> Controller:
        """Cheap, no I/O. Raises `TaskError` for a task it can never run."""

    async def reap(self, known_task_ids: Iterable[str]) -> None:
        """Stop and free what runs here under this node's name and is in no list of ours (left by a lost task store)."""
