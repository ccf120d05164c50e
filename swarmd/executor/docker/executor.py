"""The Docker executor: tasks as containers of one engine."""

from __future__ import annotations

from collections.abc import Iterable

import trio

from swarmd.executor.contract import Controller
from swarmd.model import NodeDescription, Task


class DockerExecutor:
    """Keeps `Executor`. Touches only containers that carry this swarm's and this node's labels."""

    def __init__(self, engine_addr: str, *, swarm_id: str, node_id: str, hostname: str = "") -> None:
        self._engine_addr = engine_addr
        self._swarm_id = swarm_id
        self._node_id = node_id
        self._hostname = hostname

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        raise NotImplementedError

    async def describe(self) -> NodeDescription:
        raise NotImplementedError

    async def description_changed(self) -> None:
        raise NotImplementedError

    def controller(self, task: Task) -> Controller:
        raise NotImplementedError

    async def reap(self, known_task_ids: Iterable[str]) -> None:
        raise NotImplementedError
