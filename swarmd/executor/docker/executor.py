"""The Docker executor: tasks as containers of one engine."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from typing import Final

import trio

from swarmd.executor.contract import TaskError
from swarmd.executor.docker.controller import DockerController
from swarmd.executor.docker.describe import read_generic_resources, read_plugins
from swarmd.executor.docker.engine import Engine, SdkEngine
from swarmd.executor.docker.plan import TASK_ID_LABEL, Owner, check
from swarmd.executor.docker.pulls import Images
from swarmd.executor.docker.watch import Watch
from swarmd.model import NodeDescription, Platform, Resources, Task

FEATURES: Final = ("executor.docker",)


class DockerExecutor:
    """Keeps `Executor`. Touches only containers that carry this swarm's and this node's labels.

    `hostname` replaces the engine's own in the node's description; `engine` and `rng` are for tests.
    """

    def __init__(
        self,
        engine_addr: str,
        *,
        swarm_id: str,
        node_id: str,
        hostname: str = "",
        engine: Engine | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._owner = Owner(swarm_id=swarm_id, node_id=node_id)
        self._hostname = hostname
        self._engine = engine or SdkEngine(engine_addr)
        self._watch = Watch(self._engine, self._owner, rng=rng or random.SystemRandom())
        self._images = Images(self._engine)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the engine's events and carry pulls; reconnects by itself."""
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._images.run)
                nursery.start_soon(self._watch.run)
                task_status.started()
        finally:
            self._engine.close()

    async def describe(self) -> NodeDescription:
        """What the engine says of itself and its machine; without one, what it last said and why it does not answer.

        Takes at most 5 s.
        """
        problem = ""
        try:
            await self._watch.probe()
        except TaskError as error:
            problem = str(error)
        info, system = self._watch.info, os.uname()
        return NodeDescription(
            hostname=self._hostname or str(info.get("Name", "")) or system.nodename,
            platform=Platform(
                architecture=str(info.get("Architecture", "")) or system.machine,
                os=str(info.get("OSType", "")) or system.sysname.lower(),
            ),
            resources=Resources(
                nano_cpus=int(info.get("NCPU", 0)) * 1_000_000_000,
                memory_bytes=int(info.get("MemTotal", 0)),
                generic=read_generic_resources(info),
            ),
            engine_version=str(info.get("ServerVersion", "")),
            engine_labels=dict(label.partition("=")[::2] for label in info.get("Labels") or ()),
            features=FEATURES,
            engine_error=problem,
            plugins=read_plugins(info),
        )

    async def description_changed(self) -> None:
        """Once the engine went or came back."""
        await self._watch.news()

    def controller(self, task: Task) -> DockerController:
        """Raises `TaskError` for a task that no container can be made of."""
        check(task)
        return DockerController(task, self._owner, self._engine, self._watch, self._images)

    async def reap(self, known_task_ids: Iterable[str]) -> None:
        """Kill and remove this node's containers of tasks that are not in `known_task_ids`, all at once; one that fails
        hinders no other.

        `known_task_ids` is read after the containers are listed, so a live view protects tasks that arrive meanwhile.
        Raises the first `TaskError`.
        """
        containers = await self._engine.labels(self._owner.filters)
        known = set(known_task_ids)
        errors: list[TaskError] = []
        async with trio.open_nursery() as nursery:
            for labels in containers:
                if labels.get(TASK_ID_LABEL) not in known:
                    nursery.start_soon(self._remove, labels[""], errors)
        if errors:
            raise errors[0]

    async def _remove(self, id: str, errors: list[TaskError]) -> None:
        """Nobody is told of its end, but it is asked to stop as any other, and given the time that its task had."""
        try:
            container = await self._engine.inspect(id)
            if container is None:
                return
            if container.is_running:
                await self._engine.kill(id, container.stop_signal)
                await self._ended(id, container.stop_grace_s or 0.0, container.labels[TASK_ID_LABEL])
            await self._engine.remove(id)
        except TaskError as error:
            errors.append(error)

    async def _ended(self, id: str, within_s: float, task_id: str) -> None:
        with trio.move_on_after(within_s):
            while True:
                changed = self._watch.changed(task_id)
                container = await self._engine.inspect(id)
                if container is None or not container.is_running:
                    return
                await changed.wait()
