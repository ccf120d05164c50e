"""The process: starts fast, ends with an exit status."""

from __future__ import annotations

import gc
import os
import sys


def main() -> int:
    """The console script."""
    # A process this short leaves nothing worth collecting, and collecting costs a tenth of its start.
    gc.disable()
    from swarmctl.command_line import run
    from swarmctl.environment import Environment
    from swarmctl.outcome import EXIT_BROKEN_PIPE

    status = run(sys.argv[1:], Environment())
    if status == EXIT_BROKEN_PIPE:
        # Python flushes stdout once more on its way out, and would complain about the reader that went away.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


if __name__ == "__main__":
    raise SystemExit(main())
