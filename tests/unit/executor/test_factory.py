"""Which executor a name means."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmd.errors import Invalid
from swarmd.executor import make_executor
from swarmd.executor.docker import DockerExecutor
from swarmd.executor.process import ProcessExecutor


async def test_process_is_built_with_its_hostname(tmp_path: Path) -> None:
    executor = make_executor("process", directory=tmp_path, swarm_id="s", node_id="n", hostname="w1")
    assert isinstance(executor, ProcessExecutor)
    assert (await executor.describe()).hostname == "w1"
    assert executor.log_path("t") == tmp_path / "process" / "t" / "task.log"


def test_docker_calls_nobody_when_it_is_built(tmp_path: Path) -> None:
    executor = make_executor(
        "docker", directory=tmp_path, swarm_id="s", node_id="n", engine_addr="unix:///nowhere/docker.sock"
    )
    assert isinstance(executor, DockerExecutor)


def test_an_unknown_name_is_invalid(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as caught:
        make_executor("podman", directory=tmp_path, swarm_id="s", node_id="n")
    assert caught.value.hint is not None
    assert "process" in caught.value.hint
