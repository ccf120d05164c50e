"""The agent's durable memory: `TaskStore` behind one thread, one call at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

import trio

from swarmd.model import Task, TaskStatus

T = TypeVar("T")


class TaskRecords(Protocol):
    """What is used of `swarmd.storage.task_store.TaskStore`."""

    def load(self) -> tuple[Task, ...]: ...
    def put(self, tasks: Iterable[Task]) -> None: ...
    def put_status(self, updates: Iterable[tuple[str, TaskStatus]]) -> None: ...
    def remove(self, task_ids: Iterable[str]) -> None: ...


class RunBlocking(Protocol):
    """How a blocking call is made. Tests under a mock clock, to which threads are invisible, make it inline."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


def in_one_thread() -> RunBlocking:
    """A fresh limiter of one: the store allows one thread at a time."""
    limiter = trio.CapacityLimiter(1)

    async def run(work: Callable[[], T], /) -> T:
        return await trio.to_thread.run_sync(work, limiter=limiter)

    return run


class Ledger:
    """Async calls of the store. `Cancelled` means that a call was made whole or never began."""

    def __init__(self, records: TaskRecords, run_blocking: RunBlocking) -> None:
        self._records = records
        self._run = run_blocking

    async def load(self) -> tuple[Task, ...]:
        return await self._run(self._records.load)

    async def put(self, tasks: tuple[Task, ...]) -> None:
        if tasks:
            await self._run(lambda: self._records.put(tasks))

    async def put_status(self, updates: tuple[tuple[str, TaskStatus], ...]) -> None:
        if updates:
            await self._run(lambda: self._records.put_status(updates))

    async def remove(self, task_ids: tuple[str, ...]) -> None:
        if task_ids:
            await self._run(lambda: self._records.remove(task_ids))
