"""The options of what a task takes of its node."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer
from msgspec.structs import replace

from swarmctl.flags.given import Text, Texts, edited, is_given, items_of
from swarmctl.values import parse_cpus, parse_memory
from swarmd.model import GenericResource, ResourceLimits, ResourceRequirements


class ResourceFlags(msgspec.Struct, frozen=True, kw_only=True):
    """Each in SwarmKit's spelling and Docker's."""

    memory_limit: Annotated[
        Text, typer.Option("--memory-limit", "--limit-memory", metavar="SIZE", help="Memory at most, like 512m.")
    ] = None
    memory_reservation: Annotated[
        Text, typer.Option("--memory-reservation", "--reserve-memory", metavar="SIZE", help="Memory to set aside.")
    ] = None
    cpu_limit: Annotated[
        Text, typer.Option("--cpu-limit", "--limit-cpu", metavar="CPUS", help="CPUs at most, like 0.5.")
    ] = None
    cpu_reservation: Annotated[
        Text, typer.Option("--cpu-reservation", "--reserve-cpu", metavar="CPUS", help="CPUs to set aside.")
    ] = None
    generic_resource: Annotated[
        Texts,
        typer.Option("--generic-resource", "--generic-resources", metavar="KIND=N", help="To set aside, like gpu=2."),
    ] = None


class ResourceEdits(msgspec.Struct, frozen=True, kw_only=True):
    """What `update` takes beside them."""

    generic_resource_add: Annotated[
        Texts, typer.Option("--generic-resource-add", metavar="KIND=N", help="Set this aside too, or another amount.")
    ] = None
    generic_resource_rm: Annotated[
        Texts, typer.Option("--generic-resource-rm", metavar="KIND", help="Set none of this kind aside.")
    ] = None


def changed_resources(spec: ResourceRequirements, flags: ResourceFlags, edits: ResourceEdits) -> ResourceRequirements:
    """`spec` with what was given. Raises `Invalid` naming the option."""
    reservations = _amounts(spec.reservations, flags.memory_reservation, flags.cpu_reservation, "reservation")
    return ResourceRequirements(
        limits=_amounts(spec.limits, flags.memory_limit, flags.cpu_limit, "limit"),
        reservations=replace(reservations, generic=_generic(spec.reservations.generic, flags, edits)),
    )


def _amounts(amounts: ResourceLimits, memory: Text, cpu: Text, which: str) -> ResourceLimits:
    changes: dict[str, Any] = {}
    if memory is not None:
        changes["memory_bytes"] = parse_memory(memory, f"--memory-{which}")
    if cpu is not None:
        changes["nano_cpus"] = parse_cpus(cpu, f"--cpu-{which}")
    return replace(amounts, **changes)


def _generic(
    present: tuple[GenericResource, ...], flags: ResourceFlags, edits: ResourceEdits
) -> tuple[GenericResource, ...]:
    added = _parsed(edits.generic_resource_add, "--generic-resource-add")
    gone = {resource.kind for resource in added}
    for text in edits.generic_resource_rm or ():
        gone.add(text.partition("=")[0].strip())
    whole = _parsed(flags.generic_resource, "--generic-resource") if is_given(flags.generic_resource) else None
    return edited(present, whole=whole, add=added, drop=lambda resource: resource.kind in gone)


def _parsed(texts: Texts, option: str) -> tuple[GenericResource, ...]:
    if not is_given(texts):
        return ()
    from swarmd.model.generic_resources import parse_generic_resources  # as late as its first use

    return parse_generic_resources(",".join(items_of(texts)), field=option)
