"""What a command is given: the client, the places to write to, the options that every command takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from swarmctl.client import Client
from swarmctl.environment import Environment
from swarmctl.outcome import exit_code
from swarmctl.render.text import elapsed, error_lines, one_line
from swarmd.errors import Invalid, SwarmError
from swarmd.wire.control import StatusReply


class Output(StrEnum):
    """How results are printed."""

    TABLE = "table"
    WIDE = "wide"
    NAME = "name"
    JSON = "json"
    YAML = "yaml"


def parse_output(text: str) -> Output:
    """Raises `Invalid` for a format there is not."""
    if not text:
        return Output.TABLE
    try:
        return Output(text)
    except ValueError:
        raise Invalid(f'--output: there is no format "{text}"', hint="one of " + ", ".join(Output)) from None


def staleness(status: StatusReply) -> str:
    """What a stale read is worth: up to where the manager has applied, and how long ago it was in touch with whoever
    could know more. What is read afterwards is at least as new."""
    if status.leader_contact_s is None:
        age = "which has heard no leader since it started"
    else:
        whom = "a majority of the managers" if status.is_leader else "a leader"
        age = f"in touch with {whom} {elapsed(status.leader_contact_s)} ago"
    return f"Note: possibly stale, as of index {status.applied_index} on node {status.node_id}, {age}"


class Invocation:
    """One command's run."""

    def __init__(
        self, environment: Environment, *, socket: Path, output: Output, no_resolve: bool, quiet: bool, stale: bool
    ) -> None:
        self.environment = environment
        self.socket = socket
        self.output = output
        self.no_resolve = no_resolve
        self.quiet = quiet
        self.stale = stale

    @contextmanager
    def client(self, *, is_own_view: bool = False) -> Iterator[Client]:
        """A client for this command. A stale read says on stderr what it is as of, unless what is read is the manager's
        own view anyway."""
        with Client(self.socket, self.environment, stale=self.stale) as client:
            if self.stale and not is_own_view:
                self.note(staleness(client.status()))
            yield client

    def line(self, text: str) -> None:
        """A line of the result."""
        self.environment.out.write(text + "\n")

    def block(self, text: str) -> None:
        """A result of several lines, each ended."""
        self.environment.out.write(text)

    def note(self, text: str) -> None:
        """A line beside the result, for the human."""
        self.environment.err.write(one_line(text) + "\n")

    def for_each(self, references: Sequence[str], act: Callable[[str], None]) -> int:
        """Do all of it, telling each failure as it comes; the exit status of the worst."""
        worst = 0
        for reference in references:
            try:
                act(reference)
            except SwarmError as error:
                self.environment.err.write(error_lines(error))
                worst = max(worst, exit_code(error))
        return worst
