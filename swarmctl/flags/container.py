"""The options of what a task runs."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from msgspec.structs import replace

from swarmctl.flags.given import Text, Texts, items_of, only_given
from swarmctl.values import parse_duration, parse_signal
from swarmd.model import ContainerSpec


class ContainerFlags(msgspec.Struct, frozen=True, kw_only=True):
    """Lists are repeated options, one item each, never split; giving one replaces the whole list."""

    image: Annotated[
        Text, typer.Option("--image", metavar="IMAGE", help="Image reference, or an absolute directory.")
    ] = None
    command: Annotated[Texts, typer.Option("--command", metavar="WORD", help="One word of the command.")] = None
    args: Annotated[Texts, typer.Option("--args", metavar="ARG", help="One argument.")] = None
    env: Annotated[Texts, typer.Option("--env", "-e", metavar="NAME=VALUE", help="One variable, NAME=value.")] = None
    dir: Annotated[Text, typer.Option("--dir", "--workdir", metavar="PATH", help="Working directory.")] = None
    user: Annotated[Text, typer.Option("--user", metavar="USER", help="User, or USER:GROUP.")] = None
    hostname: Annotated[Text, typer.Option("--hostname", metavar="NAME", help="Hostname of each task.")] = None
    stop_signal: Annotated[
        Text, typer.Option("--stop-signal", metavar="SIGNAL", help="Signal that asks it to stop, like SIGINT.")
    ] = None
    stop_grace_period: Annotated[
        Text, typer.Option("--stop-grace-period", metavar="DURATION", help="Time between that signal and the kill.")
    ] = None


def changed_container(spec: ContainerSpec, flags: ContainerFlags) -> ContainerSpec:
    """`spec` with what was given. Raises `Invalid` naming the option."""
    changes = only_given(image=flags.image, dir=flags.dir, user=flags.user, hostname=flags.hostname)
    lists = {"command": flags.command, "args": flags.args, "env": flags.env}
    changes |= {name: items_of(items) for name, items in lists.items() if items}
    if flags.stop_signal is not None:
        changes["stop_signal"] = parse_signal(flags.stop_signal)
    if flags.stop_grace_period is not None:
        changes["stop_grace_period_s"] = parse_duration(flags.stop_grace_period, "--stop-grace-period")
    return replace(spec, **changes)
