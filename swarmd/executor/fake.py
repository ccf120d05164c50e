"""An executor without processes, for tests of everything above: scriptable, held to the same contract suite.

`FakeMachine` is the world that outlives a daemon; any number of `FakeExecutor`s may look at it, one after the other, as
a restarted daemon would. All waiting is on Trio's clock, so a mock clock makes it instant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from swarmd.executor.contract import TaskError, TaskExited, TemporaryTaskError
from swarmd.model import ContainerStatus, NodeDescription, Platform, Resources, Task

EXIT_TERMINATED: Final = 143
EXIT_KILLED: Final = 137
FIRST_PID: Final = 1000


@dataclass(frozen=True, kw_only=True)
class Script:
    """How a fake task behaves. Errors are raised by successive calls of the verb, which then succeeds."""

    refuse: TaskError | None = None
    """Raised by `Executor.controller`."""
    prepare_s: float = 0.0
    prepare_errors: Sequence[Exception] = ()
    start_s: float = 0.0
    start_errors: Sequence[Exception] = ()
    run_s: float = math.inf
    """Until it exits by itself."""
    exit_code: int = 0
    stop_s: float = 0.0
    """From the stop signal to its end; inf ignores the signal."""
    shutdown_errors: Sequence[Exception] = ()
    remove_errors: Sequence[Exception] = ()
    output: bytes = b""


@dataclass(kw_only=True)
class FakeTask:
    """What the machine holds of one task."""

    script: Script
    pid: int
    calls: list[str] = field(default_factory=list)
    """Verbs begun, in order."""
    is_prepared: bool = False
    is_forbidden: bool = False
    started_at: float | None = None
    starts: int = 0
    ends_at: float = math.inf
    exit_code: int = 0
    log: bytes = b""
    changed: trio.Event = field(default_factory=trio.Event)
    """Set and replaced whenever `ends_at` moves."""

    @property
    def is_over(self) -> bool:
        return self.ends_at <= trio.current_time()

    @property
    def is_running(self) -> bool:
        return self.started_at is not None and not self.is_over

    def end(self, exit_code: int, *, delay_s: float = 0.0) -> None:
        """Let it exit after `delay_s`, unless it exits sooner anyway."""
        ends_at = trio.current_time() + delay_s
        if ends_at >= self.ends_at:
            return
        self.ends_at, self.exit_code = ends_at, exit_code
        self.changed.set()
        self.changed = trio.Event()

    async def wait_over(self) -> None:
        while not self.is_over:
            changed = self.changed
            with trio.move_on_at(self.ends_at):
                await changed.wait()


class FakeMachine:
    """All tasks of one machine, whoever looks after them."""

    def __init__(self, script: Callable[[Task], Script] = lambda _task: Script()) -> None:
        self.script = script
        self.tasks: dict[str, FakeTask] = {}
        self.started: list[str] = []
        """Task ids in the order they really started; twice the same would be a defect."""
        self._next_pid = FIRST_PID

    @property
    def running(self) -> frozenset[str]:
        """The ids of what runs now."""
        return frozenset(task_id for task_id, task in self.tasks.items() if task.is_running)

    def die_now(self, task_id: str, exit_code: int = 1) -> None:
        """The task exits by itself, now."""
        self.tasks[task_id].end(exit_code)

    def reboot(self) -> None:
        """Everything that ran is dead."""
        for task in self.tasks.values():
            if task.is_running:
                task.end(EXIT_KILLED)

    def task(self, task: Task) -> FakeTask:
        """The machine's record of `task`, made if missing."""
        if task.id not in self.tasks:
            self.tasks[task.id] = FakeTask(script=self.script(task), pid=self._next_pid)
            self._next_pid += 1
        return self.tasks[task.id]


class FakeController:
    """The contract's verbs over a `FakeTask`."""

    def __init__(self, machine: FakeMachine, task: Task) -> None:
        self._machine = machine
        self._task = task
        self._errors_raised: dict[str, int] = {}

    async def prepare(self) -> None:
        fake = await self._begin("prepare")
        await trio.sleep(fake.script.prepare_s)
        self._raise_next("prepare", fake.script.prepare_errors)
        fake.is_prepared = True

    async def start(self) -> None:
        fake = await self._begin("start")
        if fake.started_at is None:
            await trio.sleep(fake.script.start_s)
            self._raise_next("start", fake.script.start_errors)
            self._start(fake)

    async def wait(self) -> None:
        fake = await self._begin("wait")
        if fake.started_at is None and not fake.is_forbidden:
            raise TaskError("nothing runs it")
        await fake.wait_over()
        if fake.exit_code:
            raise TaskExited(fake.exit_code, f"exit status {fake.exit_code}")

    async def shutdown(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._task.id not in self._machine.tasks:
            return
        fake = await self._begin("shutdown")
        self._raise_next("shutdown", fake.script.shutdown_errors)
        await self._stop(fake)

    async def terminate(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._task.id in self._machine.tasks:
            fake = await self._begin("terminate")
            fake.is_forbidden = True
            fake.end(EXIT_KILLED)

    async def remove(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._task.id not in self._machine.tasks:
            return
        fake = await self._begin("remove")
        self._raise_next("remove", fake.script.remove_errors)
        await self._stop(fake)
        self._machine.tasks.pop(self._task.id, None)

    async def status(self) -> ContainerStatus | None:
        await trio.lowlevel.checkpoint()
        fake = self._machine.tasks.get(self._task.id)
        if fake is None or fake.started_at is None:
            return None
        exit_code = fake.exit_code if fake.is_over else None
        return ContainerStatus(container_id=self._task.id, pid=fake.pid, exit_code=exit_code)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    async def _begin(self, verb: str) -> FakeTask:
        await trio.lowlevel.checkpoint()
        fake = self._machine.task(self._task)
        fake.calls.append(verb)
        return fake

    def _start(self, fake: FakeTask) -> None:
        if not fake.is_prepared:
            raise TaskError("it was not prepared")
        if fake.is_forbidden:
            raise TaskError("it was stopped before it started")
        if fake.started_at is None:
            fake.started_at = trio.current_time()
            fake.starts += 1
            fake.log = fake.script.output
            self._machine.started.append(self._task.id)
            fake.end(fake.script.exit_code, delay_s=fake.script.run_s)

    async def _stop(self, fake: FakeTask) -> None:
        if fake.started_at is None:
            fake.is_forbidden = True
            fake.end(EXIT_KILLED)
            return
        fake.end(EXIT_TERMINATED, delay_s=fake.script.stop_s)
        with trio.move_on_after(self._task.spec.container.stop_grace_period_s):
            await fake.wait_over()
        fake.end(EXIT_KILLED)

    def _raise_next(self, verb: str, errors: Sequence[Exception]) -> None:
        raised = self._errors_raised.get(verb, 0)
        if raised < len(errors):
            self._errors_raised[verb] = raised + 1
            raise errors[raised]


class FakeExecutor:
    """A daemon's view of a `FakeMachine`."""

    def __init__(
        self, machine: FakeMachine | None = None, *, hostname: str = "fake", features: tuple[str, ...] = ()
    ) -> None:
        self.machine = FakeMachine() if machine is None else machine
        self.description = NodeDescription(
            hostname=hostname,
            platform=Platform(architecture="x86_64", os="linux"),
            resources=Resources(nano_cpus=4_000_000_000, memory_bytes=8 << 30),
            engine_version="fake/1",
            features=features,
        )
        """What `describe` returns; tests may replace it."""
        self._changed = trio.Event()
        self.reap_errors: list[TemporaryTaskError] = []
        """Raised by successive calls of `reap`."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()

    async def describe(self) -> NodeDescription:
        await trio.lowlevel.checkpoint()
        return self.description

    def redescribe(self, description: NodeDescription) -> None:
        """Let `describe` say this from now on, and say that it does."""
        self.description = description
        self._changed.set()
        self._changed = trio.Event()

    async def description_changed(self) -> None:
        await self._changed.wait()

    def controller(self, task: Task) -> FakeController:
        refusal = self.machine.script(task).refuse
        if refusal is not None:
            raise refusal
        return FakeController(self.machine, task)

    async def reap(self, known_task_ids: Iterable[str]) -> None:
        await trio.lowlevel.checkpoint()
        if self.reap_errors:
            raise self.reap_errors.pop(0)
        for task_id in sorted(self.machine.tasks.keys() - set(known_task_ids)):
            self.machine.tasks.pop(task_id).end(EXIT_KILLED)
