"""The executor as the agent sees it, describing the node as a whole: what it can run and what its software knows."""

from __future__ import annotations

from collections.abc import Iterable

import trio
from msgspec.structs import replace

from swarmd.executor.contract import Controller, Executor
from swarmd.model import GenericResource, NodeDescription, Task


class Announcing:
    """Keeps `Executor`: adds the software's features to those of the executor (foundations: Version skew), and the
    generic resources that the operator says this node has, in place of those that the executor knows of."""

    def __init__(
        self, executor: Executor, features: tuple[str, ...], generic_resources: tuple[GenericResource, ...] = ()
    ) -> None:
        self._executor = executor
        self._features = features
        self._generic_resources = generic_resources

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """See `Executor`."""
        await self._executor.run(task_status=task_status)

    async def description_changed(self) -> None:
        """See `Executor`."""
        await self._executor.description_changed()

    async def describe(self) -> NodeDescription:
        """See `Executor`."""
        description = await self._executor.describe()
        resources = description.resources
        if self._generic_resources:
            resources = replace(resources, generic=self._generic_resources)
        features = tuple(sorted({*description.features, *self._features}))
        return replace(description, features=features, resources=resources)

    def controller(self, task: Task) -> Controller:
        """See `Executor`."""
        return self._executor.controller(task)

    async def reap(self, known_task_ids: Iterable[str]) -> None:
        """See `Executor`."""
        await self._executor.reap(known_task_ids)
