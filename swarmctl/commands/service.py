"""`service create`, `ls`, `inspect`, `update`, `rollback`, `scale`, `rm`; and, from other modules, `ps`, `why`,
`rebalance`."""

from __future__ import annotations

from typing import Annotated, Final

import typer
from msgspec.structs import replace

from swarmctl.client import Client
from swarmctl.commands import service_rebalance, service_shown
from swarmctl.convergence import service_gone_progress, service_progress
from swarmctl.flags.mode import ModeFlags, changed_mode
from swarmctl.flags.service import ChangeFlags, NewFlags, SpecFlags, changed_spec, new_spec
from swarmctl.invocation import Invocation
from swarmctl.kinds import SERVICE
from swarmctl.resolve import find_service
from swarmctl.show import show_changed
from swarmctl.values import parse_integer
from swarmctl.verbs import group, verb
from swarmctl.wait import Waiter, WaitOptions
from swarmd.errors import Conflict, Invalid
from swarmd.model import PublishMode, ServiceSpec
from swarmd.wire.control import (
    CreateService,
    GetObject,
    RemoveObject,
    ServiceView,
    UpdateService,
)
from swarmd.wire.methods import (
    SERVICE_CREATE,
    SERVICE_GET,
    SERVICE_REMOVE,
    SERVICE_ROLLBACK,
    SERVICE_UPDATE,
)
from swarmd.wire.orchestration import RollbackService

app = group("service", "What should run.")

EDIT_TRIES_MAX: Final = 3

ServiceArgument = service_shown.ServiceArgument
VersionOption = Annotated[
    str | None, typer.Option("--version", metavar="N", help="Only if the spec is still at this version.")
]

service_shown.register(app)
service_rebalance.register(app)


@verb(app, "create")
def create(call: Invocation, flags: NewFlags, waiting: WaitOptions) -> None:
    """Create a service from --name, --image and what else it needs."""
    for option, value in (("--name", flags.spec.name), ("--image", flags.spec.container.image)):
        if not value:
            raise Invalid(f"{option} is missing", hint="swarmctl service create --name NAME --image IMAGE")
    spec, waiter = new_spec(flags), Waiter(call, waiting)
    with call.client() as client:
        view = client.change(SERVICE_CREATE, CreateService(spec=spec))
        _tell_of_ports(call, None, view)
        _changed(call, client, view, waiter)


@verb(app, "update")
def update(
    call: Invocation,
    service: ServiceArgument,
    flags: ChangeFlags,
    waiting: WaitOptions,
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace the tasks even if nothing else changes.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Go back to the previous spec instead.")] = False,
    version: VersionOption = None,
) -> None:
    """Change what is given, and nothing else."""
    if rollback and (force or not flags.is_empty):
        raise Invalid("--rollback goes with no other change", hint="swarmctl service rollback SERVICE")
    if flags.is_empty and not force and not rollback:
        raise Invalid("nothing to change was given", hint="swarmctl service update --help")
    waiter = Waiter(call, waiting)
    expected = None if version is None else parse_integer(version, "--version")
    if rollback:
        _roll_back(call, service, waiter, expected)
        return
    with call.client() as client:
        before = find_service(client, service)
        view = _update(client, before, flags, force=force, version=expected)
        if view.service.spec_version == before.service.spec_version:
            call.note(f"service {view.service.spec.name} is so already: no changes")
        _tell_of_ports(call, before, view)
        _changed(call, client, view, waiter)


@verb(app, "rollback")
def rollback(
    call: Invocation, service: ServiceArgument, waiting: WaitOptions, *, version: VersionOption = None
) -> None:
    """Go back to the previous spec, by the rollback settings. Twice leads back."""
    waiter = Waiter(call, waiting)
    _roll_back(call, service, waiter, None if version is None else parse_integer(version, "--version"))


@verb(app, "scale")
def scale(
    call: Invocation,
    targets: Annotated[list[str], typer.Argument(metavar="SERVICE=N...", help="How many tasks; of a job, in all.")],
    waiting: WaitOptions,
) -> int:
    """Change how many tasks there are, of one service or several."""
    waiter = Waiter(call, waiting)
    wanted: dict[str, str] = {}
    for target in targets:
        service, equals, count = target.rpartition("=")
        if not equals or not service or parse_integer(count, service) < 0:
            raise Invalid(f'"{target}" is not understood', hint="SERVICE=N, like web=5")
        wanted[service] = count
    scaled: list[ServiceView] = []
    with call.client() as client:

        def change(reference: str) -> None:
            view = _scale(client, find_service(client, reference), wanted[reference])
            scaled.append(view)
            if not call.quiet:
                call.note(f"{view.service.spec.name} scaled to {wanted[reference]}")
            show_changed(call, SERVICE, view)

        worst = call.for_each(list(wanted), change)
        for view in scaled:
            _wait(client, view, waiter)
    return worst


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


def _roll_back(call: Invocation, reference: str, waiter: Waiter, version: int | None) -> None:
    with call.client() as client:
        before = find_service(client, reference)
        request = RollbackService(
            id=before.service.id, spec_version=before.service.spec_version if version is None else version
        )
        view = client.change(SERVICE_ROLLBACK, request)
        _tell_of_ports(call, before, view)
        _changed(call, client, view, waiter)


def _update(client: Client, view: ServiceView, flags: ChangeFlags, *, force: bool, version: int | None) -> ServiceView:
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


def _scale(client: Client, view: ServiceView, count: str) -> ServiceView:
    changed_mode(view.service.spec.mode, ModeFlags(replicas=count))  # says what is wrong before anything is asked
    flags = ChangeFlags(spec=SpecFlags(mode=ModeFlags(replicas=count)))
    return _update(client, view, flags, force=False, version=None)


def _wanted(spec: ServiceSpec, flags: ChangeFlags, *, force: bool) -> ServiceSpec:
    changed = changed_spec(spec, flags)
    if force:
        return replace(changed, task=replace(changed.task, force_update=changed.task.force_update + 1))
    return changed


def _tell_of_ports(call: Invocation, before: ServiceView | None, view: ServiceView) -> None:
    """What is accepted and not carried out yet must not pass for done."""
    ports = view.service.spec.endpoint.ports
    known = before.service.spec.endpoint.ports if before is not None else ()
    if any(port.publish_mode is PublishMode.INGRESS and port not in known for port in ports):
        call.note(
            "Note: ingress ports are set aside for the service and not served until there are networks; mode=host is"
        )


def _changed(call: Invocation, client: Client, view: ServiceView, waiter: Waiter) -> None:
    show_changed(call, SERVICE, view)
    _wait(client, view, waiter)


def _wait(client: Client, view: ServiceView, waiter: Waiter) -> None:
    id, version = view.service.id, view.service.spec_version
    waiter.until(client, f"service {view.service.spec.name}", lambda client: service_progress(client, id, version))
