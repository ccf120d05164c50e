"""`service ls`, `inspect`, `ps`, `why`: what is there, and why it is not otherwise."""

from __future__ import annotations

from typing import Annotated

import typer

from swarmctl.invocation import Invocation
from swarmctl.kinds import SERVICE, TASK
from swarmctl.render.plain import plain
from swarmctl.render.ps import task_history
from swarmctl.render.services import service_list, service_summary
from swarmctl.render.tasks import is_current, task_table
from swarmctl.render.why import service_explained
from swarmctl.resolve import Names, find_service
from swarmctl.show import Kind, show_list, show_one
from swarmctl.verbs import verb
from swarmd.wire.control import GetObject, ListServices, ListTasks
from swarmd.wire.methods import SERVICE_LIST, SERVICE_WHY, TASK_LIST
from swarmd.wire.orchestration import ServiceWhy

ServiceArgument = Annotated[str, typer.Argument(help="Its name, id or id prefix.")]
ServiceArguments = Annotated[list[str], typer.Argument(help="Names, ids or id prefixes.")]

WHY: Kind[ServiceWhy] = Kind(
    lambda why: why.service.service.id, lambda why: why.service.service.spec.name, lambda why: plain(why)
)


def register(app: typer.Typer) -> None:
    """Add the commands that only look."""
    verb(app, "ls", "list")(ls)
    verb(app, "inspect")(inspect)
    verb(app, "ps")(ps)
    verb(app, "why")(why)


def ls(call: Invocation) -> None:
    """List services."""
    with call.client() as client:
        views = client.read(SERVICE_LIST, ListServices()).services
    show_list(call, SERVICE, views, lambda wide: service_list(views, call.environment.now(), wide=wide))


def inspect(
    call: Invocation,
    service: ServiceArgument,
    *,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Also tasks that should no longer run.")] = False,
    pretty: Annotated[bool, typer.Option("--pretty", help="As text for humans: so it is without -o.")] = False,
) -> None:
    """Show a service, how its update stands, and its tasks."""
    with call.client() as client:
        view = find_service(client, service)

        def text() -> str:
            tasks = client.read(TASK_LIST, ListTasks(service_ids=(view.service.id,))).tasks
            shown = [task for task in tasks if everything or is_current(task)]
            now = call.environment.now()
            table = task_table(shown, Names(client, no_resolve=call.no_resolve), now)
            return service_summary(view, now) + (f"\n{table}" if shown else "")

        if pretty:
            call.block(text())
        else:
            show_one(call, SERVICE, view, text)


def ps(
    call: Invocation,
    services: ServiceArguments,
    *,
    current: Annotated[
        bool, typer.Option("--current", help="Only tasks that are to run, without those before them.")
    ] = False,
    no_trunc: Annotated[bool, typer.Option("--no-trunc", help="Errors in full.")] = False,
) -> int:
    """Show the tasks of services: of each slot the present one, and those before it."""
    with call.client() as client:

        def show(reference: str) -> None:
            view = find_service(client, reference)
            found = client.read(TASK_LIST, ListTasks(service_ids=(view.service.id,))).tasks
            tasks = [task for task in found if not current or is_current(task)]
            names = Names(client, no_resolve=call.no_resolve)
            now = call.environment.now()
            show_list(call, TASK, tasks, lambda wide: task_history(tasks, names, now, in_full=no_trunc or wide))

        return call.for_each(services, show)


def why(call: Invocation, service: ServiceArgument) -> None:
    """Say what keeps a service from being what its spec says: each task, each node, and what would help."""
    with call.client() as client:
        told = client.read(SERVICE_WHY, GetObject(id=find_service(client, service).service.id))
        names = Names(client, no_resolve=call.no_resolve)
        show_one(call, WHY, told, lambda: service_explained(told, names, call.environment.now()))
