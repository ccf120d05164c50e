"""The options of how many tasks there are."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
import typer
from msgspec.structs import replace

from swarmctl.flags.given import Switch, Text
from swarmctl.values import parse_choice, parse_integer
from swarmd.errors import Invalid
from swarmd.model import Global, GlobalJob, Mode, Replicated, ReplicatedJob

MODES: Final[dict[str, Mode]] = {
    "replicated": Replicated(),
    "global": Global(),
    "replicated-job": ReplicatedJob(max_concurrent=0),
    "global-job": GlobalJob(),
}
"""How each begins. A job runs all of its tasks at once if it is not told otherwise, as with Docker."""


class ModeFlags(msgspec.Struct, frozen=True, kw_only=True):
    """What `create` and `update` take."""

    replicas: Annotated[
        Text,
        typer.Option("--replicas", "--instances", metavar="N", help="How many tasks; of a job, completions in all."),
    ] = None
    max_concurrent: Annotated[
        Text, typer.Option("--max-concurrent", metavar="N", help="Tasks of a job at a time; 0: all at once.")
    ] = None
    follow_nodes: Annotated[
        Switch,
        typer.Option(
            "--follow-nodes/--no-follow-nodes",
            show_default=False,
            help="A global job also runs on nodes that come later.",
        ),
    ] = None


def new_mode(text: Text) -> Mode:
    """What `--mode` says; replicated if it was not given. Raises `Invalid`."""
    return MODES["replicated"] if text is None else parse_choice(text, MODES, "--mode")


def name_of(mode: Mode) -> str:
    """As `--mode` has it."""
    return next(name for name, one in MODES.items() if type(one) is type(mode))


def changed_mode(mode: Mode, flags: ModeFlags) -> Mode:
    """`mode` with what was given. Raises `Invalid` for what a service of this mode does not have."""
    if flags.replicas is not None:
        mode = _with_replicas(mode, parse_integer(flags.replicas, "--replicas"))
    if flags.max_concurrent is not None:
        if not isinstance(mode, ReplicatedJob):
            raise _refused("--max-concurrent", mode, "for replicated-job")
        mode = replace(mode, max_concurrent=parse_integer(flags.max_concurrent, "--max-concurrent"))
    if flags.follow_nodes is not None:
        if not isinstance(mode, GlobalJob):
            raise _refused("--follow-nodes", mode, "for global-job")
        mode = replace(mode, follow_nodes=flags.follow_nodes)
    return mode


def _with_replicas(mode: Mode, count: int) -> Mode:
    match mode:
        case Replicated():
            return replace(mode, replicas=count)
        case ReplicatedJob():
            return replace(mode, total_completions=count)
    raise _refused("--replicas", mode, "it has one task on each node that the constraints admit")


def _refused(option: str, mode: Mode, hint: str) -> Invalid:
    return Invalid(f"{option} does not go with a service in mode {name_of(mode)}", hint=hint)
