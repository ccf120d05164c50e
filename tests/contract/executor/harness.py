"""One harness per executor: the same behaviours, made of real commands or of scripts."""

from __future__ import annotations

import math
import os
import subprocess
import time
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import trio

from swarmd.executor import Executor, TaskError
from swarmd.executor.docker import DockerExecutor
from swarmd.executor.fake import FakeExecutor, FakeMachine, Script
from swarmd.executor.process import ProcessExecutor, proc
from swarmd.executor.process.task_files import TaskFiles
from swarmd.model import ContainerSpec, Task, TaskSpec
from tests.engine.engine import Engine

GRACE_S: Final = 0.3


def make_task(behaviour: str, number: int = 1, *, grace_s: float = GRACE_S, **container: object) -> Task:
    spec = ContainerSpec(image="any", stop_grace_period_s=grace_s, labels={"behaviour": behaviour})
    spec = msgspec.structs.replace(spec, **container)
    return Task(
        id=f"task{number:021d}",
        service_id="service",
        service_name="web",
        slot=number,
        node_id="node",
        spec=TaskSpec(container=spec),
    )


class Harness(Protocol):
    """What a test may ask of any executor."""

    refusal: str
    """In the error of a task that is refused at once."""
    not_startable: str
    """In the error of a start that cannot succeed."""

    def task(self, behaviour: str, number: int = 1) -> Task: ...
    def executor(self) -> Executor:
        """A new one that runs, as after a restart of the daemon."""

    async def until_up(self, task: Task) -> None:
        """Until a task that sleeps or ignores signals is past its own preparations."""

    def is_running(self, task: Task) -> bool: ...
    def exists(self, task: Task) -> bool: ...
    def starts(self, task: Task) -> int: ...
    def output(self, task: Task) -> bytes: ...


class FakeHarness:
    refusal = "command"
    not_startable = "exec nowhere: not found"
    SCRIPTS: Final = {
        "sleeps": Script(),
        "ends": Script(run_s=0.0),
        "exits-3": Script(run_s=0.0, exit_code=3),
        "dies-of-a-signal": Script(run_s=0.0, exit_code=128 + 9),
        "ignores-stop": Script(stop_s=math.inf),
        "prints": Script(run_s=0.0, output=b"out\nerr\n"),
        "cannot-start": Script(start_errors=(TaskError("exec nowhere: not found"),) * 9),
        "refused": Script(refuse=TaskError("no command")),
    }

    def __init__(self) -> None:
        self.machine = FakeMachine(lambda task: self.SCRIPTS[task.spec.container.labels["behaviour"]])

    def task(self, behaviour: str, number: int = 1) -> Task:
        return make_task(behaviour, number)

    def executor(self) -> Executor:
        return FakeExecutor(self.machine)

    async def until_up(self, task: Task) -> None:
        await trio.lowlevel.checkpoint()

    def is_running(self, task: Task) -> bool:
        return task.id in self.machine.running

    def exists(self, task: Task) -> bool:
        return task.id in self.machine.tasks

    def starts(self, task: Task) -> int:
        return self.machine.started.count(task.id)

    def output(self, task: Task) -> bytes:
        return self.machine.tasks[task.id].log


class ProcessHarness:
    refusal = "command"
    not_startable = "exec nowhere: not found"

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "tasks"
        self.marks = directory

    def task(self, behaviour: str, number: int = 1) -> Task:
        mark = self.marks / f"{number}"
        up = self.marks / f"{number}.up"
        if behaviour in ("sleeps", "ignores-stop") and not up.exists():
            os.mkfifo(up)
        count = f"echo x >>{mark}; "
        command = {
            "sleeps": ("sh", "-c", f"{count} echo >{up}; exec sleep 60"),
            "ends": ("sh", "-c", count),
            "exits-3": ("sh", "-c", count + "exit 3"),
            "dies-of-a-signal": ("sh", "-c", count + "kill -9 $$"),
            "ignores-stop": ("sh", "-c", f"trap '' TERM; {count} echo >{up}; exec sleep 60"),
            "prints": ("sh", "-c", "echo out; echo err >&2"),
            "cannot-start": ("nowhere",),
            "refused": (),
        }[behaviour]
        return make_task(behaviour, number, command=command)

    def executor(self) -> ProcessExecutor:
        return ProcessExecutor(self.directory)

    async def until_up(self, task: Task) -> None:
        await trio.to_thread.run_sync((self.marks / f"{task.slot}.up").read_bytes)

    def is_running(self, task: Task) -> bool:
        child = TaskFiles(self.directory / task.id).read().child
        return child is not None and proc.is_alive(child)

    def exists(self, task: Task) -> bool:
        return (self.directory / task.id).exists()

    def starts(self, task: Task) -> int:
        mark = self.marks / f"{task.slot}"
        return len(mark.read_text().split()) if mark.exists() else 0

    def output(self, task: Task) -> bytes:
        return self.executor().log_path(task.id).read_bytes()


class DockerHarness:
    refusal = "directory"
    not_startable = r'exec: "nowhere": executable file not found'

    def __init__(self, engine: Engine, nursery: trio.Nursery) -> None:
        self.engine = engine
        self._nursery = nursery
        self._began = time.time()

    def task(self, behaviour: str, number: int = 1) -> Task:
        command = {
            "sleeps": ("sh", "-c", "trap 'exit 143' TERM; touch /up; while :; do sleep 60 & wait; done"),
            "ends": ("true",),
            "exits-3": ("sh", "-c", "exit 3"),
            "dies-of-a-signal": ("sh", "-c", "exit 137"),  # pid 1 of a container cannot kill itself
            "ignores-stop": ("sh", "-c", "trap '' TERM; touch /up; exec sleep 60"),
            "prints": ("sh", "-c", "echo out; echo err >&2"),
            "cannot-start": ("nowhere",),
            "refused": ("true",),
        }[behaviour]
        image = "/srv/root" if behaviour == "refused" else "busybox"
        return make_task(behaviour, number, command=command, image=image)

    def executor(self) -> DockerExecutor:
        executor = DockerExecutor(self.engine.address, swarm_id="swarm", node_id="node")
        self._nursery.start_soon(executor.run)
        return executor

    async def until_up(self, task: Task) -> None:
        """The container tells: it waits for the file that the task makes."""
        wait = "until [ -e /up ]; do sleep 0.01; done"
        await trio.to_thread.run_sync(lambda: self.engine.docker("exec", task.name, "sh", "-c", wait))

    def is_running(self, task: Task) -> bool:
        return any(c["State"]["Running"] for c in self._containers(task))

    def exists(self, task: Task) -> bool:
        return bool(self._containers(task))

    def starts(self, task: Task) -> int:
        """The engine remembers, also of containers that are gone."""
        span = ("--since", f"{self._began:.6f}", "--until", f"{time.time():.6f}")
        mark = ("--filter", f"label=com.docker.swarm.task.id={task.id}", "--filter", "event=start")
        return len(self.engine.docker("events", *span, *mark).splitlines())

    def output(self, task: Task) -> bytes:
        """Both streams, one after the other: the engine reads them through two pipes, and promises no order."""
        logs = ["docker", "-H", self.engine.address, "logs", task.name]
        done = subprocess.run(logs, capture_output=True, check=True)
        return done.stdout + done.stderr

    def _containers(self, task: Task) -> list[dict[str, Any]]:
        return self.engine.containers(f"com.docker.swarm.task.id={task.id}")


def kill_leftovers(directory: Path) -> None:
    """End what a failed test left running, by the pids in its own files."""
    for path in directory.iterdir() if directory.exists() else ():
        handle = TaskFiles(path).read()
        for pidfd in proc.pin_session(handle.child) if handle.child else ():
            proc.send(pidfd, 9)
            os.close(pidfd)
        supervisor = proc.pin(handle.supervisor) if handle.supervisor else None
        if supervisor is not None:
            proc.send(supervisor, 9)
            os.close(supervisor)
