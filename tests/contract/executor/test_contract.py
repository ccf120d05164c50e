"""What every executor promises (`swarmd/executor/contract.py`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from swarmd.executor import Controller, TaskError, TaskExited
from swarmd.model import Task
from tests.contract.executor.harness import Harness

Verb = Callable[[Controller], Awaitable[None]]


async def run(harness: Harness, task: Task) -> Controller:
    controller = harness.executor().controller(task)
    await controller.prepare()
    await controller.start()
    return controller


async def cancelled_at_once(verb: Callable[[], Awaitable[None]]) -> bool:
    """Whether `verb` was cut short."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await verb()
    return scope.cancelled_caught


async def test_describes_the_machine(harness: Harness) -> None:
    description = await harness.executor().describe()
    assert description.hostname
    assert description.platform.os == "linux"
    assert description.resources.nano_cpus > 0
    assert description.resources.memory_bytes > 0
    assert description.engine_version


async def test_a_task_it_can_never_run_is_refused_at_once(harness: Harness) -> None:
    with pytest.raises(TaskError, match=harness.refusal):
        harness.executor().controller(harness.task("refused"))


async def test_a_clean_exit_returns_from_wait(harness: Harness) -> None:
    controller = await run(harness, harness.task("ends"))
    await controller.wait()


@pytest.mark.parametrize(("behaviour", "code"), [("exits-3", 3), ("dies-of-a-signal", 137)])
async def test_wait_tells_how_it_exited(harness: Harness, behaviour: str, code: int) -> None:
    controller = await run(harness, harness.task(behaviour))
    with pytest.raises(TaskExited) as caught:
        await controller.wait()
    assert caught.value.exit_code == code
    status = await controller.status()
    assert status is not None
    assert status.exit_code == code


async def test_wait_answers_again_and_also_later_daemons(harness: Harness) -> None:
    task = harness.task("exits-3")
    first = await run(harness, task)
    for controller in (first, first, harness.executor().controller(task)):
        with pytest.raises(TaskExited):
            await controller.wait()


async def test_prepare_and_start_twice_start_one_task(harness: Harness) -> None:
    task = harness.task("sleeps")
    controller = await run(harness, task)
    await controller.prepare()
    await controller.start()
    await harness.executor().controller(task).start()
    await harness.until_up(task)
    assert harness.is_running(task)
    await controller.shutdown()
    assert harness.starts(task) == 1


async def test_a_task_is_not_started_again_after_its_end(harness: Harness) -> None:
    task = harness.task("ends")
    controller = await run(harness, task)
    await controller.wait()
    await controller.start()
    await controller.wait()
    assert harness.starts(task) == 1


async def test_a_start_that_fails_says_why_to_every_daemon(harness: Harness) -> None:
    task = harness.task("cannot-start")
    controller = harness.executor().controller(task)
    await controller.prepare()
    for again in (controller, harness.executor().controller(task)):
        with pytest.raises(TaskError, match=harness.not_startable):
            await again.start()


async def test_start_without_prepare_fails(harness: Harness) -> None:
    with pytest.raises(TaskError, match="not prepared"):
        await harness.executor().controller(harness.task("sleeps")).start()


async def test_waiting_for_what_never_ran_fails(harness: Harness) -> None:
    with pytest.raises(TaskError, match="nothing runs it"):
        await harness.executor().controller(harness.task("sleeps")).wait()


async def test_status_is_none_until_it_runs(harness: Harness) -> None:
    task = harness.task("sleeps")
    controller = harness.executor().controller(task)
    assert await controller.status() is None
    await controller.prepare()
    assert await controller.status() is None
    await controller.start()
    status = await controller.status()
    assert status is not None
    assert status.pid > 0
    assert status.exit_code is None
    await controller.terminate()


async def test_shutdown_ends_it_within_the_grace_period(harness: Harness) -> None:
    task = harness.task("sleeps")
    controller = await run(harness, task)
    await controller.shutdown()
    assert not harness.is_running(task)
    with pytest.raises(TaskExited) as caught:
        await controller.wait()
    assert caught.value.exit_code == 143


async def test_a_task_that_ignores_the_stop_signal_is_killed_after_the_grace_period(harness: Harness) -> None:
    task = harness.task("ignores-stop")
    controller = await run(harness, task)
    await harness.until_up(task)
    began = trio.current_time()
    await controller.shutdown()
    assert trio.current_time() - began >= task.spec.container.stop_grace_period_s
    assert not harness.is_running(task)
    with pytest.raises(TaskExited) as caught:
        await controller.wait()
    assert caught.value.exit_code == 137


async def test_terminate_kills_at_once(harness: Harness) -> None:
    task = harness.task("ignores-stop")
    controller = await run(harness, task)
    await harness.until_up(task)
    await controller.terminate()
    with pytest.raises(TaskExited) as caught:
        await controller.wait()
    assert caught.value.exit_code == 137


@pytest.mark.parametrize("verb", ["shutdown", "terminate", "remove"])
async def test_stopping_what_is_missing_or_over_succeeds(harness: Harness, verb: str) -> None:
    missing = harness.executor().controller(harness.task("sleeps", 2))
    await getattr(missing, verb)()
    ended = await run(harness, harness.task("ends"))
    await ended.wait()
    await getattr(ended, verb)()
    await getattr(ended, verb)()


async def test_what_was_stopped_before_its_start_never_starts(harness: Harness) -> None:
    task = harness.task("sleeps")
    controller = harness.executor().controller(task)
    await controller.prepare()
    await controller.shutdown()
    with pytest.raises(TaskError, match="stopped before"):
        await controller.start()
    assert harness.starts(task) == 0


async def test_remove_stops_it_and_leaves_nothing(harness: Harness) -> None:
    task = harness.task("sleeps")
    controller = await run(harness, task)
    await controller.remove()
    assert not harness.is_running(task)
    assert not harness.exists(task)
    assert await controller.status() is None


async def test_a_new_daemon_adopts_a_running_task(harness: Harness) -> None:
    task = harness.task("sleeps")
    before = await (await run(harness, task)).status()
    await harness.until_up(task)
    adopted = harness.executor().controller(task)
    await adopted.prepare()
    await adopted.start()
    assert await adopted.status() == before
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(TaskExited) as caught:
                await adopted.wait()
            assert caught.value.exit_code == 143

        nursery.start_soon(wait)
        await harness.executor().controller(task).shutdown()
    assert harness.starts(task) == 1


async def test_a_cancelled_wait_leaves_the_task_alone(harness: Harness) -> None:
    task = harness.task("sleeps")
    controller = await run(harness, task)
    with trio.move_on_after(0.05) as scope:
        await controller.wait()
    assert scope.cancelled_caught
    assert harness.is_running(task)
    await controller.aclose()
    assert harness.is_running(task)
    await controller.shutdown()


async def test_each_verb_may_be_cancelled_and_called_again(harness: Harness) -> None:
    task = harness.task("ignores-stop")
    controller = harness.executor().controller(task)
    assert await cancelled_at_once(controller.prepare)
    await controller.prepare()
    assert await cancelled_at_once(controller.start)
    await controller.start()
    await harness.until_up(task)
    assert await cancelled_at_once(controller.wait)
    with trio.move_on_after(0.05) as scope:
        await controller.shutdown()
    assert scope.cancelled_caught
    assert harness.is_running(task)
    await controller.shutdown()
    assert not harness.is_running(task)
    assert await cancelled_at_once(controller.remove)
    await controller.remove()
    assert not harness.exists(task)
    assert harness.starts(task) == 1


async def test_output_is_kept(harness: Harness) -> None:
    task = harness.task("prints")
    controller = await run(harness, task)
    await controller.wait()
    assert harness.output(task) == b"out\nerr\n"


async def test_reap_ends_what_nobody_knows_and_nothing_else(harness: Harness) -> None:
    known, unknown = harness.task("sleeps", 1), harness.task("sleeps", 2)
    controller = await run(harness, known)
    await run(harness, unknown)
    executor = harness.executor()
    await executor.reap([known.id])
    assert harness.is_running(known)
    assert not harness.is_running(unknown)
    assert not harness.exists(unknown)
    await executor.reap([known.id])
    await controller.remove()
