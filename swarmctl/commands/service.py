"""`service create`, `ls`, `inspect`, `update`, `rm`."""

from __future__ import annotations

from typing import Annotated, Final

import typer
from msgspec.structs import replace

from swarmctl.client import Client
from swarmctl.convergence import service_gone_progress, service_progress
from swarmctl.invocation import Invocation
from swarmctl.kinds import SERVICE
from swarmctl.render.services import service_list, service_summary
from swarmctl.render.tasks import is_current, task_table
from swarmctl.resolve import Names, find_service
from swarmctl.show import show_changed, show_list, show_one
from swarmctl.spec_flags import SpecFlags, changed_spec, new_spec
from swarmctl.values import parse_integer
from swarmctl.verbs import group, verb
from swarmctl.wait import Waiter, WaitOptions
from swarmd.errors import Conflict, Invalid
from swarmd.model import ServiceSpec
from swarmd.wire.control import (
    CreateService,
    GetObject,
    ListServices,
    ListTasks,
    RemoveObject,
    ServiceView,
    UpdateService,
)
from swarmd.wire.methods import (
    SERVICE_CREATE,
    SERVICE_GET,
    SERVICE_LIST,
    SERVICE_REMOVE,
    SERVICE_UPDATE,
    TASK_LIST,
)

app = group("service", "What should run.")

EDIT_TRIES_MAX: Final = 3

ServiceArgument = Annotated[str, typer.Argument(help="Its name, id or id prefix.")]


@verb(app, "ls", "list")
def ls(call: Invocation) -> None:
    """List services."""
    with call.client() as client:
        views = client.read(SERVICE_LIST, ListServices()).services
    show_list(call, SERVICE, views, lambda wide: service_list(views, call.environment.now(), wide=wide))


@verb(app, "inspect")
def inspect(
    call: Invocation,
    service: ServiceArgument,
    *,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Also tasks that should no longer run.")] = False,
) -> None:
    """Show a service and its tasks."""
    with call.client() as client:
        view = find_service(client, service)

        def text() -> str:
            tasks = client.read(TASK_LIST, ListTasks(service_ids=(view.service.id,))).tasks
            shown = [task for task in tasks if everything or is_current(task)]
            table = task_table(shown, Names(client, no_resolve=call.no_resolve), call.environment.now())
            return service_summary(view) + (f"\n{table}" if shown else "")

        show_one(call, SERVICE, view, text)


@verb(app, "create")
def create(call: Invocation, flags: SpecFlags, waiting: WaitOptions) -> None:
    """Create a service from --name, --image and what else it needs."""
    for option, value in (("--name", flags.name), ("--image", flags.image)):
        if not value:
            raise Invalid(f"{option} is missing", hint="swarmctl service create --name NAME --image IMAGE")
    spec, waiter = new_spec(flags), Waiter(call, waiting)
    with call.client() as client:
        view = client.change(SERVICE_CREATE, CreateService(spec=spec))
        _changed(call, client, view, waiter)


@verb(app, "update")
def update(
    call: Invocation,
    service: ServiceArgument,
    flags: SpecFlags,
    waiting: WaitOptions,
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace the tasks even if nothing else changes.")] = False,
    version: Annotated[
        str | None, typer.Option("--version", metavar="N", help="Only if the spec is still at this version.")
    ] = None,
) -> None:
    """Change what is given, and nothing else."""
    if flags.is_empty and not force:
        raise Invalid("nothing to change was given", hint="swarmctl service update --help")
    waiter = Waiter(call, waiting)
    expected = None if version is None else parse_integer(version, "--version")
    with call.client() as client:
        before = find_service(client, service)
        view = _update(client, before, flags, force=force, version=expected)
        if view.service.spec_version == before.service.spec_version:
            call.note(f"service {view.service.spec.name} is so already: no changes")
        _changed(call, client, view, waiter)


@verb(app, "rm", "remove")
def rm(
    call: Invocation,
    services: Annotated[list[str], typer.Argument(help="Names, ids or id prefixes.")],
    waiting: WaitOptions,
) -> int:
    """Remove services and stop their tasks."""
    waiter = Waiter(call, waiting)
    with call.client() as client:

        def remove(reference: str) -> None:
            service = find_service(client, reference).service
            client.change(SERVICE_REMOVE, RemoveObject(id=service.id))
            call.line(service.id)
            waiter.until(
                client, f"service {service.spec.name}", lambda client: service_gone_progress(client, service.id)
            )

        return call.for_each(services, remove)


def _update(client: Client, view: ServiceView, flags: SpecFlags, *, force: bool, version: int | None) -> ServiceView:
    """Where the user named no version, somebody else's change in between is no obstacle: the options are applied to
    what that made of the spec."""
    for left in reversed(range(EDIT_TRIES_MAX)):
        service = view.service
        spec = _wanted(service.spec, flags, force=force)
        at = service.spec_version if version is None else version
        try:
            return client.change(SERVICE_UPDATE, UpdateService(id=service.id, spec=spec, spec_version=at))
        except Conflict:
            if version is not None or not left:
                raise
        view = client.read(SERVICE_GET, GetObject(id=service.id))
    raise AssertionError("the last try returns or raises")


def _wanted(spec: ServiceSpec, flags: SpecFlags, *, force: bool) -> ServiceSpec:
    changed = changed_spec(spec, flags)
    if force:
        return replace(changed, task=replace(changed.task, force_update=changed.task.force_update + 1))
    return changed


def _changed(call: Invocation, client: Client, view: ServiceView, waiter: Waiter) -> None:
    show_changed(call, SERVICE, view)
    id = view.service.id
    waiter.until(client, f"service {view.service.spec.name}", lambda client: service_progress(client, id))
