"""Shared rules. Tests are deterministic and never really sleep; what a machine cannot do is skipped with its reason."""

from __future__ import annotations

import os

import pytest


def _unmet(item: pytest.Item) -> str | None:
    if item.get_closest_marker("needs_root") is not None and os.geteuid() != 0:
        return "needs root"
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot do; with SWARM_TEST_REQUIRE=root such a skip is a failure."""
    reason = _unmet(item)
    if reason is None:
        return
    if "root" in os.environ.get("SWARM_TEST_REQUIRE", "").split(","):
        pytest.fail(f"{reason}, and SWARM_TEST_REQUIRE says that nothing may be skipped for it")
    pytest.skip(reason)
