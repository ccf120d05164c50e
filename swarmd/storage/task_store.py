"""The agent's tasks and their last known statuses: `STATE/agent/tasks.db`, SQLite, 0600. Blocking; called from a thread."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Self

from swarmd.model import Task, TaskStatus


class TaskStore:
    """What this node was told to run. One thread at a time."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open or create. A file that is no task store is moved aside (`.damaged`) and begun anew."""
        raise NotImplementedError

    def load(self) -> tuple[Task, ...]:
        """All tasks, each with its stored status merged in."""
        raise NotImplementedError

    def put(self, tasks: Iterable[Task]) -> None:
        """Store definitions durably; a status already stored is kept."""
        raise NotImplementedError

    def put_status(self, updates: Iterable[tuple[str, TaskStatus]]) -> None:
        """Store statuses durably; unknown tasks are ignored."""
        raise NotImplementedError

    def remove(self, task_ids: Iterable[str]) -> None:
        """Forget tasks."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the file."""
        raise NotImplementedError
