"""How a command ends: the exit status of an error (`swarmd.errors.EXIT_CODE`), and of outcomes that are no errors."""

from __future__ import annotations

from typing import Final

from swarmd.errors import EXIT_CODE, EXIT_PAUSED, EXIT_ROLLED_BACK, SwarmError

EXIT_BROKEN_PIPE: Final = 141
"""128 + SIGPIPE: what a shell shows for a program whose reader went away."""


class Rejected(SwarmError):
    """What was asked for was accepted and will not come about by itself."""


class RolledBack(SwarmError):
    """What was asked for was begun and taken back."""


def exit_code(error: SwarmError) -> int:
    """The exit status that tells this error."""
    if isinstance(error, RolledBack):
        return EXIT_ROLLED_BACK
    return EXIT_PAUSED if isinstance(error, Rejected) else EXIT_CODE[error.kind]
