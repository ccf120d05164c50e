"""Shared rules. Tests are deterministic and never really sleep; what a machine cannot do is skipped with its reason."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.tools import chaos_tools_missing
from tests.engine.engine import Engine
from tests.engine.images import BUSYBOX, busybox_image, redis_image

REQUIRED = os.environ.get("SWARM_TEST_REQUIRE", "").split(",")


def _unmet(item: pytest.Item) -> tuple[str, str] | None:
    """What the machine lacks, by the name that SWARM_TEST_REQUIRE has for it, and in words."""
    if item.get_closest_marker("needs_root") is not None and os.geteuid() != 0:
        return "root", "needs root"
    if item.get_closest_marker("needs_chaos_tools") is not None:
        lacking = chaos_tools_missing()
        if lacking or os.geteuid() != 0:
            return "root", f"needs root and tools that make faults; missing: {', '.join(lacking) or 'root'}"
    if item.get_closest_marker("needs_docker") is not None:
        missing = [name for name in ("dockerd", "docker", "containerd", "runc") if shutil.which(name) is None]
        missing += [] if BUSYBOX.exists() else [str(BUSYBOX)]
        if missing or os.geteuid() != 0:
            return "docker", f"needs root and a Docker engine to start; missing: {', '.join(missing) or 'root'}"
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot do; what SWARM_TEST_REQUIRE names fails instead."""
    unmet = _unmet(item)
    if unmet is None:
        return
    if unmet[0] in REQUIRED:
        pytest.fail(f"{unmet[1]}, and SWARM_TEST_REQUIRE says that nothing may be skipped for it")
    pytest.skip(unmet[1])


@pytest.fixture(scope="session")
def session_engine() -> Iterator[Engine]:
    """One engine for all tests, with the images busybox and redis."""
    engine = Engine(Path(tempfile.mkdtemp(prefix="engine-")))
    try:
        engine.start()
        engine.load(busybox_image(), redis_image())
        yield engine
    finally:
        engine.stop()


@pytest.fixture
def engine(session_engine: Engine) -> Iterator[Engine]:
    """It, running; what containers a test leaves are removed."""
    if not session_engine.answers():
        session_engine.start()
    yield session_engine
    if session_engine.answers():
        session_engine.remove_containers()
