"""Which executor a name means."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmd.errors import Invalid, Unimplemented
from swarmd.executor import make_executor
from swarmd.executor.process import ProcessExecutor


async def test_process_is_built_with_its_hostname(tmp_path: Path) -> None:
    executor = make_executor("process", directory=tmp_path, hostname="w1")
    assert isinstance(executor, ProcessExecutor)
    assert (await executor.describe()).hostname == "w1"
    assert executor.log_path("t") == tmp_path / "process" / "t" / "task.log"


def test_docker_says_that_it_is_not_built(tmp_path: Path) -> None:
    with pytest.raises(Unimplemented) as caught:
        make_executor("docker", directory=tmp_path)
    assert caught.value.message == "the docker executor is not built yet"
    assert caught.value.hint == "start swarmd with --executor process"


def test_an_unknown_name_is_invalid(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as caught:
        make_executor("podman", directory=tmp_path)
    assert caught.value.hint is not None
    assert "process" in caught.value.hint
