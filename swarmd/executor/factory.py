"""The executor that a flag names."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from swarmd.errors import Invalid
from swarmd.executor.contract import Executor
from swarmd.executor.docker import make_docker_executor
from swarmd.executor.process import ProcessExecutor

EXECUTORS: Final = ("docker", "process")
"""What `--executor` accepts. The fake is for tests and is built by hand."""


def make_executor(name: str, *, directory: Path, hostname: str = "") -> Executor:
    """The executor called `name`, which keeps its files below `directory` (`STATE/agent`).

    `hostname` replaces the machine's own in the node's description. Raises `Invalid` for an unknown name and
    `Unimplemented` for one that is not built; never falls back to another.
    """
    match name:
        case "process":
            return ProcessExecutor(directory / "process", hostname=hostname)
        case "docker":
            return make_docker_executor(hostname=hostname)
        case _:
            raise Invalid(
                f"no executor is called {name!r}", field="$.executor", hint=f"use one of: {', '.join(EXECUTORS)}"
            )
