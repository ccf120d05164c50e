"""One task's machine in Trio: at most one operation in flight, and news about the task cancels it.

What to do next and what an outcome means is decided in `machine`; this module only carries it out.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable

import trio
from msgspec.structs import replace

from swarmd.agent import machine
from swarmd.agent.machine import Step
from swarmd.executor import Controller, TaskError
from swarmd.model import ContainerStatus, Task, TaskState, TaskStatus

log = logging.getLogger(__name__)

OnStatus = Callable[[str, TaskStatus], None]


class TaskRunner:
    """Drives one task towards its desired state. Its own status is canonical; the manager's copy is not read.

    `on_status` is called synchronously with each new status.
    """

    def __init__(
        self, task: Task, controller: Controller, *, now: Callable[[], float], rng: random.Random, on_status: OnStatus
    ) -> None:
        self._task = task
        self._controller = controller
        self._now = now
        self._rng = rng
        self._on_status = on_status
        self._status = task.status
        self._news = trio.Event()
        self._operation: trio.CancelScope | None = None
        self._attempts = 0

    @property
    def task(self) -> Task:
        """The task as last accepted, with the status seen here."""
        return replace(self._task, status=self._status)

    def update(self, task: Task) -> None:
        """Take what the manager now wants of the task, and stop what is being done for it.

        Ignored: another task, one that differs in status and meta only, and a desired state that is lower.
        """
        if task.id != self._task.id:
            raise AssertionError(f"task {task.id} was given to the machine of {self._task.id}")
        if replace(task, status=self._task.status, meta=self._task.meta) == self._task:
            return
        if not machine.accepts(self._task.desired_state, task.desired_state):
            log.warning("task %s: a lower desired state, %s, is ignored", task.id, task.desired_state.name)
            return
        self._task = task
        self._attempts = 0
        self._news.set()
        if self._operation is not None:
            self._operation.cancel()

    async def run(self) -> None:
        """Drive the task until cancelled, which leaves the task itself as it is."""
        while True:
            self._news = trio.Event()
            step = machine.next_step(self._task.desired_state, self._status.state)
            if step is Step.IDLE:
                await self._news.wait()
                continue
            error = await self._attempt(step)
            if error is not None:
                await self._pause_after(error)

    async def _attempt(self, step: Step) -> Exception | None:
        """Do `step` and record its outcome; an error to be retried is returned. Cancelled by news: nothing changes."""
        with trio.CancelScope() as self._operation:
            try:
                await self._perform(step)
            except TaskError as error:
                failure: Exception | None = error
            except Exception as error:
                log.error("task %s: %s failed", self._task.id, step.name, exc_info=error)
                failure = error
            else:
                failure = None
        if self._operation.cancelled_caught:
            return None
        self._operation = None
        if failure is not None:
            return await self._fail(step, failure)
        await self._record(machine.succeeded(step, self._status, self._now()))
        return None

    async def _perform(self, step: Step) -> None:
        verbs: dict[Step, Callable[[], Awaitable[None]]] = {
            Step.PREPARE: self._controller.prepare,
            Step.START: self._controller.start,
            Step.WAIT: self._controller.wait,
            Step.SHUTDOWN: self._controller.shutdown,
        }
        verb = verbs.get(step, trio.lowlevel.checkpoint)
        await verb()

    async def _fail(self, step: Step, error: Exception) -> Exception | None:
        self._attempts += 1
        if machine.is_worth_retrying(step, error, self._attempts):
            await self._record(machine.delayed(self._status, error, self._now()))
            return error
        await self._record(machine.failed(step, self._status, error, self._now()))
        return None

    async def _pause_after(self, error: Exception) -> None:
        # Jitter, so that the tasks of an engine that comes back do not all try at once.
        delay_s = machine.retry_delay_s(self._attempts) * self._rng.uniform(0.5, 1.0)
        log.info("task %s: trying again in %.1f s: %s", self._task.id, delay_s, error)
        with trio.move_on_after(delay_s):
            await self._news.wait()

    async def _record(self, status: TaskStatus) -> None:
        """Make `status` the task's own, with what runs it, and report it."""
        if status.state >= TaskState.STARTING:
            status = replace(status, container=await self._container(status.container))
        if status == self._status:
            return
        if status.state != self._status.state:
            self._attempts = 0
            log.info("task %s: %s%s", self._task.id, status.state.name, f": {status.err}" if status.err else "")
        self._status = status
        self._on_status(self._task.id, status)

    async def _container(self, last_known: ContainerStatus | None) -> ContainerStatus | None:
        try:
            container = await self._controller.status()
        except TaskError:
            return last_known
        if container is None or container.exit_code is not None or last_known is None:
            return container or last_known
        return replace(container, exit_code=last_known.exit_code)
