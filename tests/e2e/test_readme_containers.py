"""The README's swarm on a Docker engine, typed as it stands, and what it says one sees."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Final

import pytest

from tests.e2e.readme import README, Walk, section, steps
from tests.engine.sandbox import Sandbox

pytestmark = [pytest.mark.slow, pytest.mark.needs_docker, pytest.mark.needs_root]

TOTAL_S_MAX: Final = 240
STEPS: Final = steps(section(README.read_text(), "A swarm by hand"))


class Left:
    """What the walk left on its machine."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.containers = sandbox.engine.docker("ps", "-aq").split()
        self.daemons = sandbox.pids("swarmd")
        self.files = sandbox.run(["ls", "/tmp"], capture_output=True, text=True).stdout.split()


@pytest.fixture(scope="module")
def walked() -> Iterator[tuple[Walk, Left]]:
    """The whole section in one shell, on a machine with an engine and nothing in /tmp."""
    walk = Walk(STEPS)
    with Sandbox() as sandbox:
        sandbox.start_engine()
        before = set(sandbox.run(["ls", "/tmp"], capture_output=True, text=True).stdout.split())
        shell = sandbox.popen(
            ["bash", "-eu", "-c", walk.script],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            transcript, _ = shell.communicate(timeout=TOTAL_S_MAX)
        except subprocess.TimeoutExpired as late:
            transcript = (late.output or b"").decode(errors="replace")
        walk.read(shell.poll(), transcript)
        left = Left(sandbox)
        left.files = sorted(set(left.files) - before)
        yield walk, left


def test_every_command_succeeds_and_the_end_leaves_nothing(walked: tuple[Walk, Left]) -> None:
    walk, left = walked
    assert walk.unsuccessful() == ""
    assert (left.containers, left.daemons, left.files) == ([], [], [])


@pytest.mark.parametrize("number", range(len(STEPS)))
def test_what_is_shown_is_what_one_sees(walked: tuple[Walk, Left], number: int) -> None:
    walk, _ = walked
    assert walk.unseen(number) == ""
