"""One command line from its words to its exit status: every error becomes one line on stderr, never a traceback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer

from swarmctl.app import root
from swarmctl.environment import Environment
from swarmctl.outcome import EXIT_BROKEN_PIPE, exit_code
from swarmctl.render.text import error_lines, one_line
from swarmd.errors import EXIT_CODE, EXIT_INTERRUPTED, EXIT_USAGE, ErrorKind, Internal, Invalid, SwarmError

# Typer shows only this member of the family of usage errors; its parent is what the parser raises.
UsageError: Any = typer.BadParameter.__mro__[1]


def run(arguments: Sequence[str], environment: Environment) -> int:
    """Run one command line; its exit status."""
    try:
        _refuse_undecodable(arguments)
        result = root().main(args=list(arguments), prog_name="swarmctl", standalone_mode=False, obj=environment)
        environment.out.flush()
    except UsageError as error:
        environment.err.write(error_lines(_usage(error)))
        return EXIT_USAGE
    except SwarmError as error:
        environment.err.write(error_lines(error))
        return exit_code(error)
    except BrokenPipeError:
        return EXIT_BROKEN_PIPE
    except (KeyboardInterrupt, typer.Abort):
        environment.err.write("\n")
        return EXIT_INTERRUPTED
    except Exception as error:  # the end of the process: the user gets a line, not a traceback
        if environment.variables.get("SWARMCTL_TRACEBACK"):
            raise
        environment.err.write(error_lines(_unexpected(error)))
        return EXIT_CODE[ErrorKind.INTERNAL]
    return result if isinstance(result, int) else 0


def _usage(error: Any) -> Invalid:
    message = one_line(error.format_message()).rstrip(".")
    command = error.ctx.command_path if error.ctx is not None else "swarmctl"
    return Invalid(message, hint=f"{command} --help")


def _unexpected(error: Exception) -> Internal:
    return Internal(
        f"unexpected {type(error).__name__}: {error}", hint="this is a defect; SWARMCTL_TRACEBACK=1 shows where"
    )


def _refuse_undecodable(arguments: Sequence[str]) -> None:
    for position, argument in enumerate(arguments, start=1):
        if any("\ud800" <= character <= "\udfff" for character in argument):
            raise Invalid(f"argument {position} is not valid UTF-8")
