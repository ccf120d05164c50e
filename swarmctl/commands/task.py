"""`task ls`, `task inspect`, `task why`."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from swarmctl.invocation import Invocation
from swarmctl.kinds import TASK
from swarmctl.render.plain import plain
from swarmctl.render.tasks import is_current, task_list, task_summary, task_table
from swarmctl.render.why import task_explained
from swarmctl.resolve import Names, find_node, find_service, find_task
from swarmctl.show import Kind, show_list, show_one
from swarmctl.verbs import group, verb
from swarmd.wire.control import GetObject, ListTasks
from swarmd.wire.methods import TASK_LIST, TASK_WHY
from swarmd.wire.orchestration import TaskWhy

app = group("task", "What runs.")

WHY: Final[Kind[TaskWhy]] = Kind(lambda why: why.task.id, lambda why: why.task.name, lambda why: plain(why))

TaskArgument = Annotated[str, typer.Argument(help="Its id, id prefix, or SERVICE.SLOT.")]


@verb(app, "ls", "list")
def ls(
    call: Invocation,
    *,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Also those that should no longer run.")] = False,
    service: Annotated[list[str] | None, typer.Option("--service", help="Only this service's.")] = None,
    node: Annotated[list[str] | None, typer.Option("--node", help="Only this node's.")] = None,
) -> None:
    """List tasks."""
    with call.client() as client:
        request = ListTasks(
            service_ids=tuple(find_service(client, name).service.id for name in service or ()),
            node_ids=tuple(find_node(client, name).node.id for name in node or ()),
        )
        tasks = [task for task in client.read(TASK_LIST, request).tasks if everything or is_current(task)]
        names = Names(client, no_resolve=call.no_resolve)
        show_list(call, TASK, tasks, lambda wide: task_list(tasks, names, call.environment.now(), wide=wide))


@verb(app, "inspect")
def inspect(call: Invocation, task: TaskArgument) -> None:
    """Show a task and the others of its slot."""
    with call.client() as client:
        found = find_task(client, task)
        names = Names(client, no_resolve=call.no_resolve)

        def text() -> str:
            siblings = client.read(TASK_LIST, ListTasks(service_ids=(found.service_id,))).tasks
            slot = found.slot or found.node_id
            parents = [other for other in siblings if (other.slot or other.node_id) == slot]
            table = task_table(parents, names, call.environment.now())
            return f"{task_summary(found, names)}\n===> Task Parents\n{table}"

        show_one(call, TASK, found, text)


@verb(app, "why")
def why(call: Invocation, task: TaskArgument) -> None:
    """Say why a task is as it is: what was last said of it, what each node says to it, and what would help."""
    with call.client() as client:
        told = client.read(TASK_WHY, GetObject(id=find_task(client, task).id))
        names = Names(client, no_resolve=call.no_resolve)
        show_one(call, WHY, told, lambda: task_explained(told, names, call.environment.now()))
