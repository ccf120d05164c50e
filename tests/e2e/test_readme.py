"""The README's commands for a machine without Docker, typed as they stand, and what it says one sees."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.machines import task_processes
from tests.e2e.readme import README, REPOSITORY, Walk, section, steps

pytestmark = pytest.mark.slow

PLACE: Final = Path("/tmp/swarm-readme")
"""Where the README keeps everything."""
PORTS: Final = (4242, 4243, 4244)
TOTAL_S_MAX: Final = 150.0
STEPS: Final = steps(section(README.read_text(), "Without Docker"))


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    """The whole section in one shell. Whatever it leaves behind is killed, and is a failure."""
    _require_free_places()
    transcript = tmp_path_factory.mktemp("readme") / "transcript"
    walk = Walk(STEPS)
    with transcript.open("wb") as out:
        shell = subprocess.Popen(
            ["bash", "-eu", "-c", walk.script],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=REPOSITORY,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            start_new_session=True,
        )
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            shell.wait(TOTAL_S_MAX)
        walk.read(shell.poll(), transcript.read_text(errors="replace"))
        yield walk
    finally:
        left = _clean(shell.pid, transcript.read_text(errors="replace"))
        shell.wait()
    assert left == []


def _require_free_places() -> None:
    if PLACE.exists():
        pytest.fail(f"{PLACE} exists: the README needs that place; a walk before this one left it there")
    for port in PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                pytest.fail(f"port {port} is in use: the README needs {PORTS}")


def _clean(session: int, transcript: str) -> list[int]:
    """Kill the shell's session and the tasks of its nodes, remove the place; what had to be killed."""
    nodes = set(re.findall(r"\b[0-9a-z]{25}\b", transcript))
    left = [process.pid for process in task_processes() if process.node_id in nodes] + _members(session)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(PLACE, ignore_errors=True)
    return left


def _members(session: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(entry.name))
    return found


def test_every_command_succeeds_and_the_end_leaves_nothing(walk: Walk) -> None:
    assert walk.unsuccessful() == ""
    assert not PLACE.exists()


@pytest.mark.parametrize("number", range(len(STEPS)))
def test_what_is_shown_is_what_one_sees(walk: Walk, number: int) -> None:
    assert walk.unseen(number) == ""
