"""The executor over an engine that misbehaves on demand."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from swarmd.executor import TaskError, TaskExited, TemporaryTaskError
from swarmd.executor.docker.controller import DockerController
from swarmd.executor.docker.engine import NameTaken
from swarmd.model import Task
from tests.unit.executor.docker.fake_engine import World, make_task


async def started(world: World, task: Task) -> DockerController:
    controller = world.executor.controller(task)
    await controller.prepare()
    await controller.start()
    return controller


async def expect_exit(controller: DockerController, code: int, words: str) -> None:
    with trio.fail_after(10), pytest.raises(TaskExited, match=words) as caught:
        await controller.wait()
    assert caught.value.exit_code == code


async def test_a_task_costs_few_calls(world: World) -> None:
    world.engine.calls.clear()
    controller = await started(world, make_task())
    status = await controller.status()
    assert status is not None
    assert status.pid == 7
    assert world.engine.calls == ["inspect", "has_image", "create", "inspect", "start", "inspect"]


async def test_an_end_is_told_by_an_event(world: World) -> None:
    task = make_task()
    controller = await started(world, task)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_exit, controller, 3, "exit status 3")
        await trio.testing.wait_all_tasks_blocked(0.01)
        world.engine.end(task.name, 3)


async def test_an_end_while_the_engine_was_away_is_found_when_it_is_back(world: World) -> None:
    task = make_task()
    controller = await started(world, task)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_exit, controller, 255, "exit status 255")
        await trio.testing.wait_all_tasks_blocked(0.01)
        world.engine.go()
        world.engine.end(task.name, 255, is_told=False)
        world.engine.come()


async def test_what_was_seen_counts_only_while_the_engine_is_there(world: World) -> None:
    task = make_task()
    controller = await started(world, task)
    await controller.status()
    world.engine.go()
    with trio.fail_after(10):
        await world.executor.description_changed()
    with pytest.raises(TemporaryTaskError, match="does not answer"):
        await controller.status()


async def test_a_container_that_somebody_removed_counts_as_killed(world: World) -> None:
    task = make_task()
    controller = await started(world, task)
    await controller.status()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_exit, controller, 137, "removed behind our back")
        await trio.testing.wait_all_tasks_blocked(0.01)
        world.engine.vanish(task.name)


async def test_out_of_memory_is_said(world: World) -> None:
    task = make_task()
    controller = await started(world, task)
    world.engine.end(task.name, 137, is_out_of_memory=True, memory_bytes=64 << 20)
    await expect_exit(controller, 137, r"out of memory \(limit 64 MiB\)")


async def test_a_creation_whose_answer_was_lost_is_adopted(world: World) -> None:
    task = make_task()
    await world.executor.controller(task).prepare()
    later = world.executor.controller(task)
    await later.prepare()
    await later.start()
    assert world.engine.calls.count("create") == 1


@pytest.mark.parametrize("verb", ["prepare", "start", "wait", "shutdown", "terminate", "remove", "status"])
async def test_a_strangers_container_is_never_touched(world: World, verb: str) -> None:
    task = make_task()
    world.foreign(task)
    before = dict(world.engine.containers)
    with pytest.raises(TaskError, match="not this swarm's"):
        await getattr(world.executor.controller(task), verb)()
    assert world.engine.containers == before


async def test_an_image_that_went_meanwhile_is_asked_for_again(world: World) -> None:
    await world.executor.controller(make_task(1)).prepare()
    world.engine.images.clear()
    world.engine.errors["pull"] = [TaskError("image busybox: not found")]
    with pytest.raises(TaskError, match="not found"):
        await world.executor.controller(make_task(2)).prepare()


async def test_a_name_that_is_being_freed_is_worth_another_try(world: World) -> None:
    world.engine.errors["create"] = [NameTaken("x")]
    with pytest.raises(TemporaryTaskError, match="being freed"):
        await world.executor.controller(make_task()).prepare()


async def test_stop_is_the_images_signal_then_the_grace_period_then_the_kill(world: World) -> None:
    task = make_task(stop_grace_period_s=0.05)
    controller = await started(world, task)
    world.engine.ignores = {"SIGTERM"}
    await controller.shutdown()
    kills = [call for call in world.engine.calls if call.startswith("kill")]
    assert kills == ["kill SIGTERM", "kill SIGKILL"]
    await expect_exit(controller, 137, "SIGKILL")


async def test_an_engine_that_is_away_is_told_and_so_is_its_return(world: World) -> None:
    assert (await world.executor.describe()).engine_error == ""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.executor.description_changed)
        await trio.testing.wait_all_tasks_blocked(0.01)
        world.engine.go()
    description = await world.executor.describe()
    assert description.engine_error == "the engine at unix:///nowhere does not answer: no such file"
    assert description.resources.nano_cpus == 2 * 10**9
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.executor.description_changed)
            await trio.testing.wait_all_tasks_blocked(0.01)
            world.engine.come()
    assert (await world.executor.describe()).engine_error == ""


async def test_the_description_is_the_engines(world: World) -> None:
    description = await world.executor.describe()
    assert (description.hostname, description.engine_version) == ("host", "20.10")
    assert description.engine_labels == {"disk": "ssd"}
    assert description.resources.memory_bytes == 1 << 30
    assert description.features == ("executor.docker",)


async def test_reaping_spares_what_is_known_and_what_is_not_ours(world: World) -> None:
    known, unknown, foreign = make_task(1), make_task(2), make_task(3)
    for task in (known, unknown):
        await started(world, task)
    world.foreign(foreign)
    await world.executor.reap([known.id])
    assert set(world.engine.containers) == {known.name, foreign.name}


async def test_one_that_cannot_be_reaped_hinders_no_other(world: World) -> None:
    for number in (1, 2):
        await started(world, make_task(number))
    world.engine.errors["remove"] = [TemporaryTaskError("busy")]
    with pytest.raises(TemporaryTaskError, match="busy"):
        await world.executor.reap([])
    assert len(world.engine.containers) == 1
