"""What this node was told to run, and a machine for each task of it.

Tasks known from the store run before and without any manager. What leaves the assigned set is removed, and removal is
repeated until it succeeds.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from typing import Final

import trio
from msgspec.structs import replace

from swarmd.agent import machine
from swarmd.agent.assignments import Change, CompleteSet
from swarmd.agent.ledger import Ledger
from swarmd.agent.reporter import Reporter
from swarmd.agent.task_runner import TaskRunner
from swarmd.executor import Controller, Executor, TaskError
from swarmd.model import Task, TaskState, TaskStatus

log = logging.getLogger(__name__)

REMOVE_DELAY_MAX_S: Final = 30.0
REAP_PERIOD_S: Final = 60.0
"""How soon something of ours that no task stands for is found: an engine may finish a creation that we gave up on."""


class Assigned:
    """A task with its machine; without one if the executor had no controller for it."""

    def __init__(self, task: Task, runner: TaskRunner | None, controller: Controller | None) -> None:
        self._task = task
        self.runner = runner
        self.controller = controller
        self.scope = trio.CancelScope()
        self.stopped = trio.Event()

    @property
    def task(self) -> Task:
        return self._task if self.runner is None else self.runner.task


class KnownTasks:
    """Ids of all that is assigned or being removed, as of the moment it is iterated."""

    def __init__(self, assigned: dict[str, Assigned], removing: dict[str, Controller | None]) -> None:
        self._assigned = assigned
        self._removing = removing

    def __iter__(self) -> Iterator[str]:
        return iter({**self._assigned, **self._removing})


class Worker:
    """Keeps the machines in step with the assignments. `run` must be running whenever anything else is called."""

    def __init__(
        self,
        executor: Executor,
        ledger: Ledger,
        reporter: Reporter,
        *,
        now: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._executor = executor
        self._ledger = ledger
        self._reporter = reporter
        self._now = now
        self._rng = rng
        self._assigned: dict[str, Assigned] = {}
        self._removing: dict[str, Controller | None] = {}
        self._all_removed = trio.Event()
        self._has_reaped = False
        self._is_leaving = False
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Adopt the stored tasks and run the machines until cancelled, which leaves the tasks as they are."""
        tasks = await self._ledger.load()
        async with trio.open_nursery() as self._nursery:
            for task in tasks:
                self._begin(task)
            log.info("%d tasks are known from before", len(tasks))
            task_status.started()
            await trio.sleep_forever()

    @property
    def statuses(self) -> dict[str, TaskStatus]:
        """The current status of each task."""
        return {task_id: assigned.task.status for task_id, assigned in self._assigned.items()}

    async def apply(self, assignments: CompleteSet | Change) -> None:
        """Bring the machines in step. Durable before anything is started; removals go on in the background.

        Does nothing once `remove_all` was called.
        """
        if self._is_leaving:
            return
        await self._ledger.put(assignments.tasks)
        for task in assignments.tasks:
            self._assign(task)
        if isinstance(assignments, Change):
            await self._unassign(assignments.removed)
            return
        listed = {task.id for task in assignments.tasks}
        await self._unassign(tuple(task_id for task_id in self._assigned if task_id not in listed))
        self._begin_reaping()

    async def remove_all(self) -> None:
        """Stop and remove every task; returns when nothing is left. Repeats what fails, so the caller sets a limit."""
        self._is_leaving = True
        await self._unassign(tuple(self._assigned))
        while self._removing:
            self._all_removed = trio.Event()
            await self._all_removed.wait()

    # -- assigned -----------------------------------------------------------------------------------------------------
    def _assign(self, task: Task) -> None:
        known = self._assigned.get(task.id)
        if task.id in self._removing:
            # Its processes are being stopped, and a task runs at most once.
            gone = TaskStatus(state=TaskState.FAILED, at=self._now(), message="removed", err="it was removed here")
            self._reporter.report(task.id, gone)
        elif known is None:
            self._begin(task)
        elif known.runner is None:
            # Resolving it failed; what is wanted now may be another matter.
            self._begin(replace(task, status=known.task.status))
        else:
            known.runner.update(task)

    def _begin(self, task: Task) -> None:
        assert self._nursery is not None
        try:
            controller = self._executor.controller(task)
        except TaskError as error:
            status = machine.unresolved(task.status, error, self._now())
            self._assigned[task.id] = Assigned(replace(task, status=status), None, None)
            if status != task.status:
                self._reporter.report(task.id, status)
            return
        runner = TaskRunner(task, controller, now=self._now, rng=self._rng, on_status=self._reporter.report)
        assigned = Assigned(task, runner, controller)
        self._assigned[task.id] = assigned
        self._nursery.start_soon(self._drive, assigned, runner, name=f"task {task.name}")

    async def _drive(self, assigned: Assigned, runner: TaskRunner) -> None:
        try:
            with assigned.scope:
                await runner.run()
        finally:
            assigned.stopped.set()

    # -- removed ------------------------------------------------------------------------------------------------------
    async def _unassign(self, task_ids: tuple[str, ...]) -> None:
        """Begin to remove what is known of these. Should the daemon die on the way, its successor reaps the rest."""
        assert self._nursery is not None
        for task_id in task_ids:
            assigned = self._assigned.pop(task_id, None)
            if assigned is not None:
                self._removing[task_id] = assigned.controller
                self._nursery.start_soon(self._remove, task_id, assigned)
        await self._ledger.remove(task_ids)

    async def _remove(self, task_id: str, assigned: Assigned) -> None:
        if assigned.runner is not None:
            assigned.scope.cancel()
            await assigned.stopped.wait()
        if assigned.controller is not None:
            await self._until_removed(task_id, assigned.controller)
            await assigned.controller.aclose()
        self._reporter.forget(task_id)
        del self._removing[task_id]
        log.info("task %s: removed", task_id)
        if not self._removing:
            self._all_removed.set()

    async def _until_removed(self, task_id: str, controller: Controller) -> None:
        attempts = 0
        while True:
            try:
                await controller.remove()
            except Exception as error:
                attempts += 1
                log.warning(
                    "task %s: removing it failed: %s", task_id, error, exc_info=not isinstance(error, TaskError)
                )
                await trio.sleep(self._retry_delay_s(attempts))
            else:
                return

    def _begin_reaping(self) -> None:
        """After the first complete set of this run, and no sooner: if the store was lost, that set alone tells which
        of the running tasks are still wanted."""
        assert self._nursery is not None
        if not self._has_reaped:
            self._has_reaped = True
            self._nursery.start_soon(self._reap_for_ever)

    async def _reap_for_ever(self) -> None:
        """At once, then now and then, and whenever the engine went or came back."""
        while True:
            await self._reap()
            with trio.move_on_after(REAP_PERIOD_S):
                await self._executor.description_changed()

    async def _reap(self) -> None:
        """Repeats what fails until nothing is left that no task stands for."""
        attempts = 0
        while True:
            try:
                await self._executor.reap(KnownTasks(self._assigned, self._removing))
            except TaskError as error:
                attempts += 1
                log.warning("removing unknown tasks failed: %s", error)
                await trio.sleep(self._retry_delay_s(attempts))
            else:
                return

    def _retry_delay_s(self, attempts: int) -> float:
        return min(machine.retry_delay_s(attempts), REMOVE_DELAY_MAX_S) * self._rng.uniform(0.5, 1.0)
