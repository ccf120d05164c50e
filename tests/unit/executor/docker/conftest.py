"""A running Docker executor over a fake engine, once it is connected."""

from __future__ import annotations

import pytest
import trio

from tests.unit.executor.docker.fake_engine import World


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    world = World(nursery)
    with trio.fail_after(10):
        await world.engine.connected.wait()
    return world
