"""The engine that tests start: it lives, dies and leaves nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.engine import CGROUPS, Engine, EngineFailed
from tests.engine.images import busybox_image

pytestmark = [pytest.mark.slow, pytest.mark.needs_docker]


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(Path(tempfile.mkdtemp(prefix="engine-")), live_restore=True)
    yield engine
    engine.stop()


def test_it_is_killed_and_started_and_leaves_nothing(engine: Engine) -> None:
    engine.start()
    engine.load(busybox_image())
    id = engine.docker("run", "--detach", "--label", "of=us", "busybox", "sleep", "1000").strip()
    engine.kill()
    assert not engine.answers()
    engine.start()
    assert [c["State"]["Running"] for c in engine.containers("of=us")] == [True]
    pid = engine.containers("of=us")[0]["State"]["Pid"]
    with pytest.raises(EngineFailed, match="No such container"):
        engine.docker("inspect", "--type", "container", "nothing")
    engine.stop()
    assert not engine.directory.exists()
    assert not (Path("/proc") / str(pid) / "exe").exists()
    assert not list(CGROUPS.glob(f"*/*{engine.directory.name}*"))
    assert id
