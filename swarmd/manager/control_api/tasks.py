"""Tasks, read only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from swarmd.errors import Invalid, NotFound
from swarmd.manager.control_api.access import Access
from swarmd.manager.control_api.filters import check_size, has_prefix, prefixed
from swarmd.model import Task
from swarmd.state.command import Table
from swarmd.state.store import State
from swarmd.transport.connection import Call, UnaryHandler
from swarmd.wire.control import GetObject, ListTasks, TaskList, TaskView
from swarmd.wire.methods import TASK_GET, TASK_LIST, Method


class TaskHandlers:
    """Serves `task.list` and `task.get`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def handlers(self) -> dict[Method[Any, Any], UnaryHandler]:
        return {TASK_LIST: self.list, TASK_GET: self.get}

    async def get(self, call: Call, request: GetObject) -> TaskView:
        """Raises `Invalid` for an empty id, `NotFound`."""
        if not request.id:
            raise Invalid("a task's id is missing", field="$.id")
        task = (await self._access.read(call)).task(request.id)
        if task is None:
            raise NotFound(f"task {request.id} not found")
        return TaskView(task=task)

    async def list(self, call: Call, request: ListTasks) -> TaskList:
        """Raises `ResourceExhausted` if more match than one reply holds."""
        state = await self._access.read(call)
        tasks = [task for task in _candidates(state, request) if _matches(task, request)]
        check_size(tasks, "tasks", "ask for those of one service or one node")
        tasks.sort(key=lambda task: (-task.meta.created_at, task.id))
        tasks.sort(key=lambda task: (task.service_name, task.slot, task.node_id if task.slot == 0 else ""))
        return TaskList(tasks=tuple(tasks))


def _candidates(state: State, request: ListTasks) -> Iterable[Task]:
    """Those of the narrowest index; `_matches` judges every filter again."""
    if request.service_ids:
        return [task for id in dict.fromkeys(request.service_ids) for task in state.tasks_of_service(id)]
    if request.node_ids:
        return [task for id in dict.fromkeys(request.node_ids) for task in state.tasks_of_node(id)]
    if request.id_prefixes:
        return [task for task in prefixed(state, Table.TASK, request.id_prefixes) if isinstance(task, Task)]
    return state.tasks()


def _matches(task: Task, request: ListTasks) -> bool:
    return (
        has_prefix(task.id, request.id_prefixes)
        and (not request.service_ids or task.service_id in request.service_ids)
        and (not request.node_ids or task.node_id in request.node_ids)
    )
