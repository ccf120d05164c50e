"""A node whose engine is not there says so, takes nothing, and takes it up by itself once the engine is."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.machines import Machine, Swarm, wait_until
from tests.engine.engine import Engine
from tests.engine.images import busybox_image

pytestmark = [pytest.mark.slow, pytest.mark.needs_docker, pytest.mark.needs_root]

NOTICED_S_MAX: Final = 40.0


@pytest.fixture
def place() -> Iterator[Path]:
    """Short enough for a socket's path."""
    root = Path(tempfile.mkdtemp(prefix="away-"))
    yield root
    shutil.rmtree(root, ignore_errors=True)


def wait_status(machine: Machine, status: str) -> None:
    def shown() -> str:
        return machine.ctl("node", "ls").stdout

    wait_until(lambda: f"  {status}  " in shown(), NOTICED_S_MAX, f"the node is not {status}", shown)


def test_what_waits_for_an_engine_says_so_and_runs_once_it_is_there(place: Path) -> None:
    engine, swarm = Engine(place / "e", network=False), Swarm(place)
    try:
        machine = swarm.add(
            "node-1", "--listen-remote-api", "127.0.0.1:0", "--executor", "docker", "--engine-addr", engine.address
        )
        machine.wait_ready()
        wait_status(machine, "NO ENGINE")
        reason = f"the engine at {engine.address} does not answer: No such file or directory"
        assert f": {reason}\n" in machine.ctl("node", "inspect", "self").stdout
        waiting = machine.ctl(
            "service", "create", "--name", "busy", "--image", "busybox", "--stop-grace-period", "1s",
            "--command", "sleep", "--args", "100000", "--wait", "--timeout", "3s", check=False,
        )  # fmt: skip
        assert waiting.returncode == 7
        assert (
            "busy.1 PENDING: no suitable node (1 node not available for new tasks: 1 without its engine)"
            in waiting.stderr
        )

        engine.start()
        engine.load(busybox_image())
        wait_status(machine, "READY")
        wait_until(lambda: len(engine.docker("ps", "-q").split()) == 1, NOTICED_S_MAX, "it does not run")

        engine.kill()
        wait_status(machine, "NO ENGINE")
        [task] = machine.json("task", "ls")
        assert task["status"]["state"] == "RUNNING", "an engine that is away says nothing of its containers"
        engine.start()
        wait_status(machine, "READY")
        wait_until(lambda: len(engine.docker("ps", "-q").split()) == 1, NOTICED_S_MAX, "it does not run again")
    finally:
        swarm.stop()
        engine.stop()
