"""Waiting until a change has taken effect, and saying what is missing when it has not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

import msgspec
import typer

from swarmctl.client import Client
from swarmctl.invocation import Invocation
from swarmctl.outcome import Rejected, RolledBack
from swarmctl.render.text import duration
from swarmctl.values import parse_duration
from swarmd.errors import DeadlineExceeded, Unavailable

POLL_S_MIN: Final = 0.1
POLL_S_MAX: Final = 1.0
DEFAULT_TIMEOUT: Final = "5m"


class WaitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of every command that changes something."""

    wait: Annotated[
        bool | None,
        typer.Option(
            "--wait/--no-wait", show_default=False, help="Wait for it to take effect (default: on a terminal)."
        ),
    ] = None
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="DURATION", help="How long to wait at most, like 30s.")
    ] = DEFAULT_TIMEOUT


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far it is. `stuck` says why it will not be done by itself, `rolled_back` why it was taken back."""

    done: bool
    text: str
    stuck: str = ""
    rolled_back: str = ""


class Waiter:
    """Waits as the options say. Made before the change, so that a malformed option changes nothing."""

    def __init__(self, call: Invocation, options: WaitOptions) -> None:
        self._call = call
        self._timeout_s = parse_duration(options.timeout, "--timeout")
        self._wanted = options.wait if options.wait is not None else call.environment.err.isatty()

    def until(self, client: Client, what: str, probe: Callable[[Client], Progress]) -> bool:
        """Ask again and again until `probe` says done: often while something changes, up to `POLL_S_MAX` apart while
        nothing does. A manager that is away meanwhile is no failure. False: nobody wanted to wait.

        Raises `DeadlineExceeded` (exit 7) saying what was missing, `RolledBack` (exit 9), `Rejected` (exit 10).
        """
        if not self._wanted:
            return False
        environment = self._call.environment
        environment.out.flush()
        give_up_at = environment.monotonic() + self._timeout_s
        pause, told = POLL_S_MIN, ""
        while True:
            progress = _probed(client, probe)
            if progress.rolled_back:
                raise RolledBack(f"{what} was rolled back: {progress.rolled_back}")
            if progress.stuck:
                raise Rejected(f"{what} will not converge: {progress.stuck}")
            if progress.text != told:
                pause, told = POLL_S_MIN, progress.text
                if not self._call.quiet:
                    self._call.note(f"{what}: {told}")
            if progress.done:
                return True
            if environment.monotonic() + pause > give_up_at:
                raise DeadlineExceeded(
                    f"{what} did not converge within {duration(self._timeout_s)}: {progress.text}",
                    hint="the change is made and goes on taking effect",
                )
            environment.sleep(pause)
            pause = min(pause * 1.5, POLL_S_MAX)


def _probed(client: Client, probe: Callable[[Client], Progress]) -> Progress:
    try:
        return probe(client)
    except (Unavailable, DeadlineExceeded) as error:
        return Progress(done=False, text=error.message)
