"""The options that describe a service. What is not given changes nothing: every default is "not given"."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer
from msgspec.structs import replace

from swarmctl.values import (
    parse_condition,
    parse_cpus,
    parse_duration,
    parse_integer,
    parse_memory,
    parse_pairs,
    parse_signal,
)
from swarmd.model import (
    ContainerSpec,
    Replicated,
    ResourceLimits,
    ResourceRequirements,
    RestartPolicy,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)

Text = str | None
Texts = list[str] | None


class SpecFlags(msgspec.Struct, frozen=True, kw_only=True):
    """Lists are repeated options, one item each, never split; giving one replaces the whole list."""

    name: Annotated[Text, typer.Option("--name", metavar="NAME", help="The service's name.")] = None
    image: Annotated[
        Text, typer.Option("--image", metavar="IMAGE", help="Image reference, or an absolute directory.")
    ] = None
    replicas: Annotated[Text, typer.Option("--replicas", "--instances", metavar="N", help="How many tasks.")] = None
    command: Annotated[Texts, typer.Option("--command", metavar="WORD", help="One word of the command.")] = None
    args: Annotated[Texts, typer.Option("--args", metavar="ARG", help="One argument.")] = None
    env: Annotated[Texts, typer.Option("--env", "-e", metavar="NAME=VALUE", help="One variable, NAME=value.")] = None
    label: Annotated[Texts, typer.Option("--label", "-l", metavar="KEY=VALUE", help="One label, KEY=value.")] = None
    dir: Annotated[Text, typer.Option("--dir", metavar="PATH", help="Working directory.")] = None
    user: Annotated[Text, typer.Option("--user", metavar="USER", help="User, or USER:GROUP.")] = None
    hostname: Annotated[Text, typer.Option("--hostname", metavar="NAME", help="Hostname of each task.")] = None
    stop_signal: Annotated[
        Text, typer.Option("--stop-signal", metavar="SIGNAL", help="Signal that asks it to stop, like SIGINT.")
    ] = None
    stop_grace_period: Annotated[
        Text, typer.Option("--stop-grace-period", metavar="DURATION", help="Time between that signal and the kill.")
    ] = None
    restart_condition: Annotated[
        Text, typer.Option("--restart-condition", metavar="WHEN", help="none, failure or any.")
    ] = None
    restart_delay: Annotated[
        Text, typer.Option("--restart-delay", metavar="DURATION", help="Pause before a restart.")
    ] = None
    restart_max_attempts: Annotated[
        Text, typer.Option("--restart-max-attempts", metavar="N", help="Restarts at most; 0: no limit.")
    ] = None
    restart_window: Annotated[
        Text, typer.Option("--restart-window", metavar="DURATION", help="Window in which restarts count.")
    ] = None
    memory_limit: Annotated[Text, typer.Option("--memory-limit", metavar="SIZE", help="Memory at most, like 512m.")] = (
        None
    )
    memory_reservation: Annotated[
        Text, typer.Option("--memory-reservation", metavar="SIZE", help="Memory to set aside.")
    ] = None
    cpu_limit: Annotated[Text, typer.Option("--cpu-limit", metavar="CPUS", help="CPUs at most, like 0.5.")] = None
    cpu_reservation: Annotated[Text, typer.Option("--cpu-reservation", metavar="CPUS", help="CPUs to set aside.")] = (
        None
    )

    update_parallelism: Annotated[
        Text, typer.Option("--update-parallelism", metavar="N", help="Tasks replaced at a time; 0: all at once.")
    ] = None
    update_delay: Annotated[
        Text, typer.Option("--update-delay", metavar="DURATION", help="How long a new task runs before the next turn.")
    ] = None

    @property
    def is_empty(self) -> bool:
        """Whether none was given."""
        return all(not _given(getattr(self, name)) for name in self.__struct_fields__)


def new_spec(flags: SpecFlags) -> ServiceSpec:
    """The spec that the options describe. Raises `Invalid` naming the option that is not understood."""
    empty = ServiceSpec(name=flags.name or "", task=TaskSpec(container=ContainerSpec(image=flags.image or "")))
    return changed_spec(empty, flags)


def changed_spec(spec: ServiceSpec, flags: SpecFlags) -> ServiceSpec:
    """`spec` with what was given. Raises `Invalid` naming the option that is not understood."""
    task = replace(
        spec.task,
        container=_container(spec.task.container, flags),
        resources=_resources(spec.task.resources, flags),
        restart=_restart(spec.task.restart, flags),
    )
    changes = _only_given(name=flags.name)
    if _given(flags.label):
        changes["labels"] = parse_pairs(flags.label or (), "--label")
    if flags.replicas is not None:
        changes["mode"] = Replicated(replicas=parse_integer(flags.replicas, "--replicas"))
    return replace(spec, task=task, update=_update(spec.update, flags), **changes)


def _container(spec: ContainerSpec, flags: SpecFlags) -> ContainerSpec:
    changes = _only_given(image=flags.image, dir=flags.dir, user=flags.user, hostname=flags.hostname)
    lists = {"command": flags.command, "args": flags.args, "env": flags.env}
    changes |= {name: tuple(items) for name, items in lists.items() if items}
    if flags.stop_signal is not None:
        changes["stop_signal"] = parse_signal(flags.stop_signal)
    if flags.stop_grace_period is not None:
        changes["stop_grace_period_s"] = parse_duration(flags.stop_grace_period, "--stop-grace-period")
    return replace(spec, **changes)


def _restart(spec: RestartPolicy, flags: SpecFlags) -> RestartPolicy:
    changes: dict[str, Any] = {}
    if flags.restart_max_attempts is not None:
        changes["max_attempts"] = parse_integer(flags.restart_max_attempts, "--restart-max-attempts")
    if flags.restart_condition is not None:
        changes["condition"] = parse_condition(flags.restart_condition, "--restart-condition")
    if flags.restart_delay is not None:
        changes["delay_s"] = parse_duration(flags.restart_delay, "--restart-delay")
    if flags.restart_window is not None:
        changes["window_s"] = parse_duration(flags.restart_window, "--restart-window")
    return replace(spec, **changes)


def _update(config: UpdateConfig, flags: SpecFlags) -> UpdateConfig:
    changes: dict[str, Any] = {}
    if flags.update_parallelism is not None:
        changes["parallelism"] = parse_integer(flags.update_parallelism, "--update-parallelism")
    if flags.update_delay is not None:
        changes["delay_s"] = parse_duration(flags.update_delay, "--update-delay")
    return replace(config, **changes)


def _resources(spec: ResourceRequirements, flags: SpecFlags) -> ResourceRequirements:
    return ResourceRequirements(
        limits=_amounts(spec.limits, flags.memory_limit, flags.cpu_limit, "limit"),
        reservations=_amounts(spec.reservations, flags.memory_reservation, flags.cpu_reservation, "reservation"),
    )


def _amounts(amounts: ResourceLimits, memory: Text, cpu: Text, which: str) -> ResourceLimits:
    changes = {}
    if memory is not None:
        changes["memory_bytes"] = parse_memory(memory, f"--memory-{which}")
    if cpu is not None:
        changes["nano_cpus"] = parse_cpus(cpu, f"--cpu-{which}")
    return replace(amounts, **changes)


def _only_given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _given(value: Any) -> bool:
    return value is not None and value != [] and value != ()
