"""The executors that the suite is run against."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.executor.harness import FakeHarness, Harness, ProcessHarness, kill_leftovers


@pytest.fixture(params=["fake", "process"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    if request.param == "fake":
        yield FakeHarness()
        return
    yield ProcessHarness(tmp_path)
    kill_leftovers(tmp_path / "tasks")
