"""An engine in memory, scriptable, for what the real one cannot be made to do on demand."""

from __future__ import annotations

import queue
import random
from collections.abc import Iterator, Mapping
from typing import Any, Final

import trio
from msgspec.structs import replace

from swarmd.executor.docker import DockerExecutor
from swarmd.executor.docker.complaints import unreachable
from swarmd.executor.docker.engine import NameTaken, NoSuchImage
from swarmd.executor.docker.plan import TASK_ID_LABEL, Container
from swarmd.model import ContainerSpec, Task, TaskSpec

INFO: Final = {
    "Name": "host",
    "ServerVersion": "20.10",
    "NCPU": 2,
    "MemTotal": 1 << 30,
    "Architecture": "x86_64",
    "OSType": "linux",
    "Labels": ["disk=ssd"],
    "SystemTime": "2026-01-01T00:00:00.123456789Z",
}


def make_task(number: int = 1, **container: Any) -> Task:
    spec = ContainerSpec(image="busybox", stop_grace_period_s=10.0)
    return Task(
        id=f"task{number}",
        service_id="service",
        service_name="web",
        slot=number,
        node_id="node",
        spec=TaskSpec(container=replace(spec, **container)),
    )


class FakeStream:
    """Records that a test puts in; None ends it."""

    def __init__(self, *records: Mapping[str, Any] | None) -> None:
        self.records: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
        self.is_aborted = False
        for record in records:
            self.records.put(record)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        while (record := self.records.get()) is not None:
            yield record

    def abort(self) -> None:
        self.is_aborted = True
        self.records.put(None)


class FakeEngine:
    """Keeps `Engine`."""

    def __init__(self) -> None:
        self.is_there = True
        self.containers: dict[str, Container] = {}
        self.images = {"busybox"}
        self.pulls: dict[str, FakeStream] = {}
        """What pulling a reference gives; the image is there once its stream ended without an error."""
        self.calls: list[str] = []
        self.events: FakeStream | None = None
        self.errors: dict[str, list[Exception]] = {}
        """Raised by successive calls of that name."""
        self.ignores: set[str] = set()
        """Signals that containers ignore."""
        self.connected = trio.Event()

    # -- what a test does -------------------------------------------------------------------------------------------

    def go(self) -> None:
        """It dies; containers go on."""
        self.is_there = False
        self.connected = trio.Event()
        if self.events is not None:
            self.events.abort()

    def come(self) -> None:
        self.is_there = True

    def end(self, name: str, exit_code: int = 0, *, is_told: bool = True, **fields: Any) -> None:
        """A container's main process exits."""
        container = self.containers[name]
        self.containers[name] = replace(container, is_running=False, exit_code=exit_code, pid=0, **fields)
        if is_told:
            self._tell(container)

    def vanish(self, name: str) -> None:
        """Somebody removes a container."""
        self._tell(self.containers.pop(name))

    def _tell(self, container: Container) -> None:
        if self.events is not None and self.is_there:
            self.events.records.put({"Actor": {"Attributes": container.labels}})

    # -- what the executor asks ---------------------------------------------------------------------------------------

    async def info(self) -> Mapping[str, Any]:
        await self._call("info")
        return INFO

    async def inspect(self, name: str) -> Container | None:
        await self._call("inspect")
        by_id = {container.id: container for container in self.containers.values()}
        return self.containers.get(name) or by_id.get(name)

    async def create(self, name: str, body: Mapping[str, Any]) -> None:
        await self._call("create")
        if body["Image"] not in self.images:
            raise NoSuchImage(f"No such image: {body['Image']}")
        if name in self.containers:
            raise NameTaken(name)
        self.containers[name] = Container(
            id=f"id-{name}", name=name, labels=body["Labels"], is_running=False, has_started=False
        )

    async def start(self, id: str) -> None:
        await self._call("start")
        name = id.removeprefix("id-")
        self.containers[name] = replace(self.containers[name], is_running=True, has_started=True, pid=7)

    async def kill(self, id: str, signal: str) -> None:
        await self._call(f"kill {signal}")
        name = id.removeprefix("id-")
        if signal not in self.ignores and name in self.containers:
            self.end(name, 137 if signal == "SIGKILL" else 143)

    async def remove(self, id: str) -> None:
        await self._call("remove")
        self.containers.pop(id.removeprefix("id-"), None)

    async def labels(self, filters: Mapping[str, list[str]]) -> tuple[Mapping[str, str], ...]:
        await self._call("labels")
        wanted = dict(text.split("=", 1) for text in filters["label"])
        found = [c for c in self.containers.values() if wanted.items() <= c.labels.items()]
        return tuple({**container.labels, "": container.id} for container in found)

    async def has_image(self, reference: str) -> bool:
        await self._call("has_image")
        return reference in self.images

    async def open_pull(self, reference: str) -> FakeStream:
        await self._call("pull")
        return self.pulls[reference]

    async def open_events(self, filters: Mapping[str, list[str]], since: float) -> FakeStream:
        await self._call("events")
        self.events = FakeStream()
        self.connected.set()
        return self.events

    def close(self) -> None:
        self.calls.append("close")

    async def _call(self, name: str) -> None:
        await trio.lowlevel.checkpoint()
        self.calls.append(name)
        errors = self.errors.get(name)
        if errors:
            raise errors.pop(0)
        if not self.is_there:
            raise unreachable("unix:///nowhere", "no such file")


class World:
    """A running executor over a fake engine."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.engine = FakeEngine()
        self._nursery = nursery
        self.executor = self.daemon()

    def daemon(self) -> DockerExecutor:
        """A new one, as after a restart; its `run` is begun."""
        executor = DockerExecutor(
            "unix:///nowhere", swarm_id="swarm", node_id="node", engine=self.engine, rng=random.Random(1)
        )
        self._nursery.start_soon(executor.run)
        return executor

    def foreign(self, task: Task) -> None:
        """Somebody else's container has the task's name."""
        self.engine.containers[task.name] = Container(
            id=f"id-{task.name}", name=task.name, labels={TASK_ID_LABEL: task.id}, is_running=True, has_started=True
        )
