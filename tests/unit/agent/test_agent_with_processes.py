"""The agent over the real executor and the real store, in real time."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from swarmd.agent import Agent
from swarmd.executor.process import ProcessExecutor
from swarmd.model import Task, TaskState
from swarmd.storage.task_store import TaskStore
from tests.contract.executor.harness import kill_leftovers, make_task
from tests.unit.agent.worlds import FakeDispatcher

RUNNING = TaskState.RUNNING


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    kill_leftovers(tmp_path / "process")


@asynccontextmanager
async def daemon(state: Path, dispatcher: FakeDispatcher) -> AsyncIterator[Agent]:
    store = TaskStore.open(state / "tasks.db")
    agent = Agent(ProcessExecutor(state / "process"), store, dispatcher, now=lambda: 1.0, rng=random.Random(1))
    async with trio.open_nursery() as nursery:
        await nursery.start(agent.run)
        yield agent
        nursery.cancel_scope.cancel()
    store.close()


def assigned(command: tuple[str, ...]) -> Task:
    return make_task("x", command=command, grace_s=5.0)


def pid_of(dispatcher: FakeDispatcher, task: Task) -> int:
    container = dispatcher.reports_of(task.id)[-1].container
    assert container is not None
    return container.pid


async def test_a_restarted_daemon_finds_the_same_process_and_its_exit(state: Path) -> None:
    task = assigned(("sleep", "60"))
    dispatcher = FakeDispatcher([task])
    async with daemon(state, dispatcher):
        await dispatcher.until_reported(task.id, RUNNING)
    pid = pid_of(dispatcher, task)
    dispatcher.updates.clear()
    async with daemon(state, dispatcher):
        await dispatcher.until_reported(task.id, RUNNING)
        assert pid_of(dispatcher, task) == pid
        os.kill(pid, signal.SIGKILL)
        await dispatcher.until_reported(task.id, TaskState.FAILED)
    last = dispatcher.reports_of(task.id)[-1]
    assert last.container is not None
    assert last.container.exit_code == 137
    assert last.err == "killed by SIGKILL (exit status 137)"


async def test_an_exit_while_no_daemon_runs_is_reported_by_the_next(state: Path) -> None:
    fifo = state / "fifo"
    os.mkfifo(fifo)
    task = assigned(("sh", "-c", f"read line <{fifo}; exit 7"))
    dispatcher = FakeDispatcher([task])
    async with daemon(state, dispatcher):
        await dispatcher.until_reported(task.id, RUNNING)
    await trio.to_thread.run_sync(fifo.write_text, "go\n")
    async with daemon(state, dispatcher):
        await dispatcher.until_reported(task.id, TaskState.FAILED)
    assert dispatcher.reports_of(task.id)[-1].err == "exit status 7"


async def test_a_program_that_does_not_exist_fails_with_its_name(state: Path) -> None:
    task = assigned(("no-such-program",))
    dispatcher = FakeDispatcher([task])
    async with daemon(state, dispatcher):
        await dispatcher.until_reported(task.id, TaskState.FAILED)
    assert dispatcher.reports_of(task.id)[-1].err == "exec no-such-program: not found"


async def test_leaving_ends_the_processes_and_leaves_no_files(state: Path) -> None:
    task = assigned(("sleep", "60"))
    dispatcher = FakeDispatcher([task])
    async with daemon(state, dispatcher) as agent:
        await dispatcher.until_reported(task.id, RUNNING)
        pid = pid_of(dispatcher, task)
        await agent.leave()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert list((state / "process").iterdir()) == []
    assert [goodbye.leaving for goodbye in dispatcher.goodbyes] == [True]
