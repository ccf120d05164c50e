"""The options of when a stopped task is replaced."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer
from msgspec.structs import replace

from swarmctl.flags.given import Text
from swarmctl.values import parse_condition, parse_duration, parse_integer
from swarmd.model import RestartPolicy


class RestartFlags(msgspec.Struct, frozen=True, kw_only=True):
    """What `create` and `update` take."""

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


def changed_restart(spec: RestartPolicy, flags: RestartFlags) -> RestartPolicy:
    """`spec` with what was given. Raises `Invalid` naming the option."""
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
