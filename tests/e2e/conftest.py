"""Real daemons for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.machines import Swarm


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    """Three managers and a worker, for a whole module; each test leaves them up."""
    swarm = Swarm(tmp_path_factory.mktemp("swarm"))
    try:
        swarm.bootstrap(3)
        swarm.join("node-4", role="worker")
        yield swarm
    finally:
        swarm.stop()
    assert swarm.strays() == []
