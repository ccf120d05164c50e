"""Images from a registry, by a real engine: once for all who want them, and refused in the registry's words."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace

from swarmd.executor import TaskError, TemporaryTaskError
from swarmd.executor.docker import DockerExecutor
from swarmd.model import Task
from tests.contract.executor.harness import DockerHarness, make_task
from tests.engine.engine import Engine
from tests.engine.images import busybox_image
from tests.engine.registry import Registry

pytestmark = pytest.mark.needs_docker

LOGIN = ("somebody", "a password")


@pytest.fixture
async def harness(engine: Engine, nursery: trio.Nursery) -> DockerHarness:
    return DockerHarness(engine, nursery)


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry(busybox_image()) as registry:
        yield registry


def task_of(image: str, number: int = 1) -> Task:
    return make_task("x", number, image=image, command=("sleep", "60"))


async def prepare(harness: DockerHarness, task: Task) -> None:
    await harness.executor().controller(task).prepare()


async def test_an_image_is_pulled_once_for_all_who_want_it_and_not_again(
    harness: DockerHarness, registry: Registry
) -> None:
    alone, shared = f"{registry.address}/open/app:1", f"{registry.address}/open/app:2"
    executor = harness.executor()
    await executor.controller(task_of(alone)).prepare()
    once = registry.asked["open/app:1"]
    assert once > 0
    async with trio.open_nursery() as nursery:
        for number in range(2, 6):
            nursery.start_soon(executor.controller(task_of(shared, number)).prepare)
    assert registry.asked["open/app:2"] == once
    await prepare(harness, task_of(shared, 6))  # a later daemon asks the engine, not the registry
    assert registry.asked["open/app:2"] == once
    images = {container["Config"]["Image"] for container in harness.engine.containers()}
    assert images == {alone, shared}


async def test_an_image_removed_since_is_pulled_again(harness: DockerHarness, registry: Registry) -> None:
    image = f"{registry.address}/open/app:3"
    executor = harness.executor()
    first = executor.controller(task_of(image))
    await first.prepare()
    once = registry.asked["open/app:3"]
    await first.remove()
    harness.engine.docker("rmi", "--force", image)
    await executor.controller(task_of(image, 2)).prepare()
    assert registry.asked["open/app:3"] == 2 * once


async def test_a_pull_that_nobody_wants_any_more_is_cut_and_can_be_asked_for_again(
    harness: DockerHarness, registry: Registry
) -> None:
    executor, image = harness.executor(), f"{registry.address}/slow/app:1"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(executor.controller(task_of(image)).prepare)
        await trio.to_thread.run_sync(registry.is_waited_for.wait)
        nursery.cancel_scope.cancel()
    registry.released.set()
    await executor.controller(task_of(image, 2)).prepare()
    assert [container["Config"]["Image"] for container in harness.engine.containers()] == [image]


async def test_a_stopping_daemon_waits_for_no_registry(harness: DockerHarness, registry: Registry) -> None:
    executor = DockerExecutor(harness.engine.address, swarm_id="swarm", node_id="node")
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(executor.run)
            nursery.start_soon(executor.controller(task_of(f"{registry.address}/slow/app:2")).prepare)
            await trio.to_thread.run_sync(registry.is_waited_for.wait)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("name", "words"),
    [("absent", r"not found: .*manifest unknown"), ("open/app@sha256:" + "0" * 64, r"not found: ")],
)
async def test_what_the_registry_has_not_is_refused_for_good(
    harness: DockerHarness, registry: Registry, name: str, words: str
) -> None:
    image = f"{registry.address}/{name if '/' in name else f'{name}/app:1'}"
    with pytest.raises(TaskError, match=words) as refused:
        await prepare(harness, task_of(image))
    assert not isinstance(refused.value, TemporaryTaskError)


@pytest.mark.parametrize(
    ("name", "words"),
    [("limited", r"limits how often it is asked: .*pull rate limit exceeded"), ("broken", r"cannot be reached: ")],
)
async def test_what_may_work_later_is_tried_again(
    harness: DockerHarness, registry: Registry, name: str, words: str
) -> None:
    with pytest.raises(TemporaryTaskError, match=words):
        await prepare(harness, task_of(f"{registry.address}/{name}/app:1"))


async def test_without_a_login_it_says_that_authentication_failed(harness: DockerHarness) -> None:
    with Registry(busybox_image(), login=LOGIN) as registry:
        with pytest.raises(TaskError, match=r"authentication failed: ") as refused:
            await prepare(harness, task_of(f"{registry.address}/open/app:1"))
        assert not isinstance(refused.value, TemporaryTaskError)


@pytest.mark.parametrize("password", ["a password", "another"])
async def test_the_login_is_the_daemons_users(
    harness: DockerHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with Registry(busybox_image(), login=LOGIN) as registry:
        login = base64.b64encode(f"{LOGIN[0]}:{password}".encode()).decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.address: {"auth": login}}}))
        task = task_of(f"{registry.address}/open/private:1")
        if password == LOGIN[1]:
            await prepare(harness, task)
            assert harness.exists(replace(task))
        else:
            with pytest.raises(TaskError, match="authentication failed"):
                await prepare(harness, task)
