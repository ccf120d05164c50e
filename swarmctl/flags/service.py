"""All options that describe a service. What is not given changes nothing: every default is "not given"."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from msgspec.structs import replace

from swarmctl.flags.container import ContainerFlags, changed_container
from swarmctl.flags.endpoint import (
    EndpointEdits,
    EndpointFlags,
    changed_dependencies,
    changed_endpoint,
    changed_log_driver,
)
from swarmctl.flags.given import Text, Texts, any_given, is_given, items_of, only_given
from swarmctl.flags.mode import ModeFlags, changed_mode, new_mode
from swarmctl.flags.placement import PlacementEdits, PlacementFlags, changed_placement
from swarmctl.flags.resources import ResourceEdits, ResourceFlags, changed_resources
from swarmctl.flags.restart import RestartFlags, changed_restart
from swarmctl.flags.updates import RollbackSettings, UpdateSettings, changed_rollback, changed_update
from swarmctl.values import parse_pairs
from swarmd.model import ContainerSpec, ServiceSpec, TaskSpec


class SpecFlags(msgspec.Struct, frozen=True, kw_only=True):
    """What `create` and `update` both take."""

    name: Annotated[Text, typer.Option("--name", metavar="NAME", help="The service's name.")] = None
    label: Annotated[Texts, typer.Option("--label", "-l", metavar="KEY=VALUE", help="One label, KEY=value.")] = None
    container: ContainerFlags = ContainerFlags()
    mode: ModeFlags = ModeFlags()
    resources: ResourceFlags = ResourceFlags()
    placement: PlacementFlags = PlacementFlags()
    restart: RestartFlags = RestartFlags()
    endpoint: EndpointFlags = EndpointFlags()
    update: UpdateSettings = UpdateSettings()
    rollback: RollbackSettings = RollbackSettings()


class NewFlags(msgspec.Struct, frozen=True, kw_only=True):
    """What `create` takes."""

    mode: Annotated[
        Text, typer.Option("--mode", metavar="MODE", help="replicated (default), global, replicated-job or global-job.")
    ] = None
    spec: SpecFlags = SpecFlags()


class ChangeFlags(msgspec.Struct, frozen=True, kw_only=True):
    """What `update` takes."""

    spec: SpecFlags = SpecFlags()
    placement: PlacementEdits = PlacementEdits()
    resources: ResourceEdits = ResourceEdits()
    endpoint: EndpointEdits = EndpointEdits()

    @property
    def is_empty(self) -> bool:
        """Whether none was given."""
        return not any_given(self)


def new_spec(flags: NewFlags) -> ServiceSpec:
    """The spec that the options describe. Raises `Invalid` naming the option that is not understood."""
    empty = ServiceSpec(
        name=flags.spec.name or "",
        task=TaskSpec(container=ContainerSpec(image=flags.spec.container.image or "")),
        mode=new_mode(flags.mode),
    )
    return changed_spec(empty, ChangeFlags(spec=flags.spec))


def changed_spec(spec: ServiceSpec, change: ChangeFlags) -> ServiceSpec:
    """`spec` with what was given. Raises `Invalid` naming the option that is not understood."""
    flags = change.spec
    task = replace(
        spec.task,
        container=changed_container(spec.task.container, flags.container),
        resources=changed_resources(spec.task.resources, flags.resources, change.resources),
        restart=changed_restart(spec.task.restart, flags.restart),
        placement=changed_placement(spec.task.placement, flags.placement, change.placement),
        log_driver=changed_log_driver(spec.task.log_driver, flags.endpoint.log_driver, flags.endpoint.log_opt),
    )
    changes = only_given(name=flags.name)
    if is_given(flags.label):
        changes["labels"] = parse_pairs(items_of(flags.label), "--label")
    return replace(
        spec,
        task=task,
        mode=changed_mode(spec.mode, flags.mode),
        update=changed_update(spec.update, flags.update),
        rollback=changed_rollback(spec.rollback, flags.rollback),
        endpoint=changed_endpoint(spec.endpoint, flags.endpoint, change.endpoint),
        depends_on=changed_dependencies(spec.depends_on, flags.endpoint),
        **changes,
    )
