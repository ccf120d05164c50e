"""A process executor whose leftovers are ended by the pids in its own files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmd.executor.process import ProcessExecutor
from tests.contract.executor.harness import kill_leftovers


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    tasks = tmp_path / "tasks"
    yield tasks
    kill_leftovers(tasks)


@pytest.fixture
def executor(directory: Path) -> ProcessExecutor:
    return ProcessExecutor(directory)
