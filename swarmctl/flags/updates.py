"""The options of how a new template reaches the tasks, and of how the previous one comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec
import typer
from msgspec.structs import replace

from swarmctl.flags.given import Text
from swarmctl.values import parse_choice, parse_duration, parse_integer, parse_ratio
from swarmd.model import FailureAction, UpdateConfig, UpdateOrder

ACTIONS: Final = {
    "pause": FailureAction.PAUSE,
    "continue": FailureAction.CONTINUE,
    "rollback": FailureAction.ROLLBACK,
}
ROLLBACK_ACTIONS: Final = {name: action for name, action in ACTIONS.items() if action is not FailureAction.ROLLBACK}
"""A rollback is never rolled back."""
ORDERS: Final = {"stop-first": UpdateOrder.STOP_FIRST, "start-first": UpdateOrder.START_FIRST}


class UpdateSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How an update goes."""

    update_parallelism: Annotated[
        Text,
        typer.Option(
            "--update-parallelism",
            metavar="N",
            help="Tasks replaced at a time; 0: all at once.",
        ),
    ] = None
    update_delay: Annotated[
        Text,
        typer.Option(
            "--update-delay",
            metavar="DURATION",
            help="Run time of a new task before the next turn.",
        ),
    ] = None
    update_monitor: Annotated[
        Text,
        typer.Option(
            "--update-monitor",
            metavar="DURATION",
            help="How long a new task is watched for failure.",
        ),
    ] = None
    update_failure_action: Annotated[
        Text,
        typer.Option(
            "--update-failure-action",
            "--update-on-failure",
            metavar="ACTION",
            help="pause, continue or rollback when too many fail.",
        ),
    ] = None
    update_max_failure_ratio: Annotated[
        Text,
        typer.Option(
            "--update-max-failure-ratio",
            metavar="RATIO",
            help="Share of failures put up with, 0 to 1.",
        ),
    ] = None
    update_order: Annotated[
        Text,
        typer.Option(
            "--update-order",
            metavar="ORDER",
            help="stop-first or start-first.",
        ),
    ] = None
    update_progress_timeout: Annotated[
        Text,
        typer.Option(
            "--update-progress-timeout",
            metavar="DURATION",
            help="Whoever does not run by then has failed; 0: never.",
        ),
    ] = None


class RollbackSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a rollback goes."""

    rollback_parallelism: Annotated[
        Text,
        typer.Option(
            "--rollback-parallelism",
            metavar="N",
            help="Tasks replaced at a time; 0: all at once.",
        ),
    ] = None
    rollback_delay: Annotated[
        Text,
        typer.Option(
            "--rollback-delay",
            metavar="DURATION",
            help="Run time of a new task before the next turn.",
        ),
    ] = None
    rollback_monitor: Annotated[
        Text,
        typer.Option(
            "--rollback-monitor",
            metavar="DURATION",
            help="How long a new task is watched for failure.",
        ),
    ] = None
    rollback_failure_action: Annotated[
        Text,
        typer.Option(
            "--rollback-failure-action",
            "--rollback-on-failure",
            metavar="ACTION",
            help="pause or continue when too many fail.",
        ),
    ] = None
    rollback_max_failure_ratio: Annotated[
        Text,
        typer.Option(
            "--rollback-max-failure-ratio",
            metavar="RATIO",
            help="Share of failures put up with, 0 to 1.",
        ),
    ] = None
    rollback_order: Annotated[
        Text,
        typer.Option(
            "--rollback-order",
            metavar="ORDER",
            help="stop-first or start-first.",
        ),
    ] = None
    rollback_progress_timeout: Annotated[
        Text,
        typer.Option(
            "--rollback-progress-timeout",
            metavar="DURATION",
            help="Whoever does not run by then has failed; 0: never.",
        ),
    ] = None


_PARSERS: Final[dict[str, tuple[str, Callable[[str, str], Any]]]] = {
    "parallelism": ("parallelism", parse_integer),
    "delay": ("delay_s", parse_duration),
    "monitor": ("monitor_s", parse_duration),
    "failure_action": ("failure_action", lambda text, option: parse_choice(text, ACTIONS, option)),
    "max_failure_ratio": ("max_failure_ratio", parse_ratio),
    "order": ("order", lambda text, option: parse_choice(text, ORDERS, option)),
    "progress_timeout": ("progress_timeout_s", parse_duration),
}
"""End of an option's name -> the field that it is, and what reads it."""


def changed_update(config: UpdateConfig, flags: UpdateSettings) -> UpdateConfig:
    """`config` with what was given of the update's. Raises `Invalid` naming the option."""
    return _changed(config, flags, "update")


def changed_rollback(config: UpdateConfig, flags: RollbackSettings) -> UpdateConfig:
    """`config` with what was given of the rollback's. Raises `Invalid` naming the option."""
    if flags.rollback_failure_action is not None:
        parse_choice(flags.rollback_failure_action, ROLLBACK_ACTIONS, "--rollback-failure-action")
    return _changed(config, flags, "rollback")


def _changed(config: UpdateConfig, flags: msgspec.Struct, prefix: str) -> UpdateConfig:
    changes = {
        field: parse(text, f"--{prefix}-{name.replace('_', '-')}")
        for name, (field, parse) in _PARSERS.items()
        if (text := getattr(flags, f"{prefix}_{name}")) is not None
    }
    return replace(config, **changes)
