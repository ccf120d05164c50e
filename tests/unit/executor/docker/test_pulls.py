"""Images are asked for once, and pulled only if they are absent."""

from __future__ import annotations

import pytest
import trio

from swarmd.executor import TaskError, TemporaryTaskError
from swarmd.executor.docker.pulls import Images
from tests.unit.executor.docker.fake_engine import FakeEngine, FakeStream


@pytest.fixture
async def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
async def images(engine: FakeEngine, nursery: trio.Nursery) -> Images:
    images = Images(engine)
    await nursery.start(images.run)
    return images


async def test_what_is_there_is_asked_for_once_and_not_pulled(engine: FakeEngine, images: Images) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(images.ensure, "busybox")
    await images.ensure("busybox")
    assert engine.calls == ["has_image"]
    images.forget("busybox")
    await images.ensure("busybox")
    assert engine.calls == ["has_image"] * 2


async def test_many_tasks_share_one_pull(engine: FakeEngine, images: Images) -> None:
    engine.pulls["new"] = FakeStream({"status": "Pulling"}, {"status": "Done"}, None)
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(images.ensure, "new")
    assert engine.calls.count("pull") == 1


async def test_the_registrys_last_word_is_the_error_and_the_next_asks_again(engine: FakeEngine, images: Images) -> None:
    words = "manifest unknown"
    for _ in range(2):
        engine.pulls["new"] = FakeStream({"status": "x"}, {"error": words, "errorDetail": {"message": words}}, None)
        with pytest.raises(TaskError, match=words):
            await images.ensure("new")
    assert engine.calls.count("pull") == 2


async def test_a_pull_outlives_one_of_its_waiters(engine: FakeEngine, images: Images) -> None:
    stream = engine.pulls["new"] = FakeStream()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(images.ensure, "new")
        with trio.move_on_after(0.05) as impatient:
            await images.ensure("new")
        assert impatient.cancelled_caught
        assert not stream.is_aborted
        stream.records.put(None)
    assert engine.calls.count("pull") == 1


async def test_a_pull_that_nobody_wants_is_cut_and_the_next_begins_anew(engine: FakeEngine, images: Images) -> None:
    stream = engine.pulls["new"] = FakeStream()
    with trio.move_on_after(0.05) as impatient:
        await images.ensure("new")
    assert impatient.cancelled_caught
    engine.pulls["new"] = FakeStream(None)
    with trio.fail_after(10):
        await images.ensure("new")
    assert stream.is_aborted
    assert engine.calls.count("pull") == 2


async def test_an_engine_that_fails_meanwhile_is_worth_another_try(engine: FakeEngine, images: Images) -> None:
    engine.is_there = False
    with pytest.raises(TemporaryTaskError, match="does not answer"):
        await images.ensure("busybox")
    engine.is_there = True
    await images.ensure("busybox")
