"""The executors that the suite is run against."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tests.contract.executor.harness import DockerHarness, FakeHarness, Harness, ProcessHarness, kill_leftovers


@pytest.fixture(params=["fake", "process", pytest.param("docker", marks=pytest.mark.needs_docker)])
async def harness(request: pytest.FixtureRequest, tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Harness]:
    match request.param:
        case "fake":
            yield FakeHarness()
        case "docker":
            yield DockerHarness(request.getfixturevalue("engine"), nursery)
        case _:
            yield ProcessHarness(tmp_path)
            kill_leftovers(tmp_path / "tasks")
