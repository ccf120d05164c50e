"""The executor that a flag names."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from swarmd.errors import Invalid
from swarmd.executor.contract import Executor
from swarmd.executor.process import ProcessExecutor

EXECUTORS: Final = ("docker", "process")
"""What `--executor` accepts. The fake is for tests and is built by hand."""

DEFAULT_ENGINE_ADDR: Final = "unix:///var/run/docker.sock"


def make_executor(
    name: str,
    *,
    directory: Path,
    swarm_id: str,
    node_id: str,
    hostname: str = "",
    engine_addr: str = DEFAULT_ENGINE_ADDR,
) -> Executor:
    """The executor called `name`, which keeps its files below `directory` (`STATE/agent`).

    `swarm_id` and `node_id` mark what it runs as this node's. `hostname` replaces the machine's own in the node's
    description. `engine_addr` is where a Docker engine listens, `unix://PATH` or `tcp://HOST:PORT`; nobody is called
    here. Raises `Invalid` for an unknown name; never falls back to another.
    """
    match name:
        case "process":
            return ProcessExecutor(directory / "process", hostname=hostname)
        case "docker":
            # The SDK takes 0.2 s to import, which nodes without it need not spend.
            from swarmd.executor.docker import DockerExecutor

            return DockerExecutor(engine_addr, swarm_id=swarm_id, node_id=node_id, hostname=hostname)
        case _:
            raise Invalid(
                f"no executor is called {name!r}", field="$.executor", hint=f"use one of: {', '.join(EXECUTORS)}"
            )
