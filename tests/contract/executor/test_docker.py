"""What only a real engine can show of the Docker executor."""

from __future__ import annotations

import gc
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace

from swarmd.executor import Controller, TaskError, TaskExited, TemporaryTaskError
from swarmd.executor.docker import DockerExecutor
from swarmd.model import ResourceLimits, ResourceRequirements, Task
from tests.contract.executor.harness import DockerHarness, make_task
from tests.engine.engine import Engine
from tests.engine.images import busybox_image

pytestmark = pytest.mark.needs_docker


@pytest.fixture
async def harness(engine: Engine, nursery: trio.Nursery) -> DockerHarness:
    return DockerHarness(engine, nursery)


@pytest.fixture(params=[False, True], ids=["stops-its-containers", "leaves-its-containers"])
def mortal(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine of the test's own, to be killed."""
    engine = Engine(Path(tempfile.mkdtemp(prefix="engine-")), live_restore=request.param)
    try:
        engine.start()
        engine.load(busybox_image())
        yield engine
    finally:
        engine.stop()
        with warnings.catch_warnings():
            # The SDK leaves the socket of a failed connect to the garbage collector: not in somebody else's test.
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


async def start(executor: DockerExecutor, task: Task) -> Controller:
    controller = executor.controller(task)
    await controller.prepare()
    await controller.start()
    return controller


def limited(task: Task, *, memory_bytes: int, nano_cpus: int = 0) -> Task:
    limits = ResourceLimits(memory_bytes=memory_bytes, nano_cpus=nano_cpus)
    return replace(task, spec=replace(task.spec, resources=ResourceRequirements(limits=limits)))


async def until_it_answers(executor: DockerExecutor) -> None:
    while (await executor.describe()).engine_error:
        with trio.move_on_after(1):  # it may have come back since it was asked
            await executor.description_changed()


@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning")
async def test_an_engine_that_is_killed_and_comes_back(mortal: Engine, nursery: trio.Nursery) -> None:
    harness = DockerHarness(mortal, nursery)
    executor = harness.executor()
    controller = await start(executor, harness.task("sleeps"))
    is_stopped = mortal.docker("info", "--format", "{{.LiveRestoreEnabled}}").strip() == "false"
    async with trio.open_nursery() as waiting:
        outcome: list[TaskExited] = []

        async def wait() -> None:
            try:
                await controller.wait()
            except TaskExited as ended:
                outcome.append(ended)
            except TemporaryTaskError:
                # Its last event was the container's end, and it was gone when asked about it. An agent waits once more.
                await until_it_answers(executor)
                await wait()

        waiting.start_soon(wait)
        assert (await executor.describe()).engine_error == ""
        async with trio.open_nursery() as news:
            news.start_soon(executor.description_changed)
            await trio.to_thread.run_sync(mortal.kill)
        assert "does not answer" in (await executor.describe()).engine_error
        with pytest.raises(TemporaryTaskError, match="does not answer"):
            await executor.controller(harness.task("sleeps", 2)).prepare()
        async with trio.open_nursery() as news:
            news.start_soon(executor.description_changed)
            await trio.to_thread.run_sync(mortal.start)
        assert (await executor.describe()).engine_error == ""
        if not is_stopped:
            assert harness.is_running(harness.task("sleeps"))
            assert outcome == []
            await controller.shutdown()
    assert len(outcome) == 1


async def test_a_container_removed_behind_our_back_has_ended(harness: DockerHarness) -> None:
    task = harness.task("sleeps")
    controller = await start(harness.executor(), task)
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            # The engine tells of the end before it tells of the removal: either may be found.
            with pytest.raises(TaskExited, match=r"removed behind our back|killed by SIGKILL") as caught:
                await controller.wait()
            assert caught.value.exit_code == 137

        nursery.start_soon(wait)
        await controller.status()
        await trio.to_thread.run_sync(lambda: harness.engine.docker("rm", "--force", task.name))
    assert await controller.status() is None


async def test_limits_are_the_engines_to_enforce_and_too_much_memory_is_said(harness: DockerHarness) -> None:
    command = ("sh", "-c", "x=x; while :; do x=$x$x; done")
    task = limited(make_task("x", command=command, image="busybox"), memory_bytes=16 << 20, nano_cpus=5 * 10**8)
    controller = await start(harness.executor(), task)
    [container] = harness.engine.containers(f"com.docker.swarm.task.id={task.id}")
    assert container["HostConfig"]["Memory"] == 16 << 20
    assert container["HostConfig"]["NanoCpus"] == 5 * 10**8
    with pytest.raises(TaskExited, match=r"out of memory \(limit 16 MiB\)"):
        await controller.wait()


async def test_what_the_spec_says_is_what_the_container_is(harness: DockerHarness) -> None:
    script = "echo $(id -u) $(hostname) $(pwd) $A; echo args $0 $1"
    task = make_task(
        "x",
        image="busybox",
        command=("sh", "-c", script),
        args=("zero", "one two"),
        env=("A=b c",),
        dir="/etc",
        user="nobody",
        hostname="inside",
        stop_signal="SIGINT",
    )
    task = replace(task, spec=replace(task.spec, container=replace(task.spec.container, labels={"own": "label"})))
    controller = await start(harness.executor(), task)
    await controller.wait()
    assert harness.output(task) == b"65534 inside /etc b c\nargs zero one two\n"
    [container] = harness.engine.containers("own=label")
    assert container["Config"]["StopSignal"] == "SIGINT"
    assert container["HostConfig"]["RestartPolicy"]["Name"] in ("", "no")
    assert container["Name"] == f"/{task.name}"


async def test_an_image_that_is_nowhere_is_told_in_the_registrys_words(harness: DockerHarness) -> None:
    task = make_task("x", image="127.0.0.1:1/nowhere/app:1", command=("true",))
    with pytest.raises(TaskError, match=r"image 127\.0\.0\.1:1/nowhere/app:1: .*connection refused"):
        await harness.executor().controller(task).prepare()


async def test_another_nodes_containers_are_neither_used_nor_reaped(harness: DockerHarness) -> None:
    other = DockerExecutor(harness.engine.address, swarm_id="swarm", node_id="other")
    task = harness.task("sleeps")
    async with trio.open_nursery() as nursery:
        await nursery.start(other.run)
        await start(other, task)
        executor = harness.executor()
        await executor.reap([])
        assert harness.is_running(task)
        with pytest.raises(TaskError, match="not this swarm's"):
            await executor.controller(task).prepare()
        await other.reap([])
        assert not harness.exists(task)
        nursery.cancel_scope.cancel()


async def test_a_stopping_daemon_waits_for_no_engine(harness: DockerHarness) -> None:
    executor = DockerExecutor(harness.engine.address, swarm_id="swarm", node_id="node")
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(executor.run)
            await start(executor, harness.task("sleeps"))
            nursery.cancel_scope.cancel()
