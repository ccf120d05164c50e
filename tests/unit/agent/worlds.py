"""A dispatcher and a task store in memory, both scriptable, for the agent's tests."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

import trio
from msgspec.structs import replace

from swarmd.agent import Agent
from swarmd.agent.link import DispatcherLink
from swarmd.errors import SwarmError, Unavailable
from swarmd.executor.fake import FakeExecutor
from swarmd.model import ContainerSpec, Node, Task, TaskSpec, TaskState, TaskStatus
from swarmd.wire import dispatch

T = TypeVar("T")

STREAM_BUFFER = 100


def make_task(
    number: int = 1,
    *,
    state: TaskState = TaskState.ASSIGNED,
    desired: TaskState = TaskState.RUNNING,
    grace_s: float = 10.0,
) -> Task:
    return Task(
        id=f"task{number}",
        service_name="web",
        slot=number,
        node_id="node",
        spec=TaskSpec(container=ContainerSpec(image="any", command=("true",), stop_grace_period_s=grace_s)),
        status=TaskStatus(state=state),
        desired_state=desired,
    )


async def inline(work: Callable[[], T], /) -> T:
    """Threads are invisible to a mock clock, so the store is called where it stands."""
    await trio.lowlevel.checkpoint()
    return work()


class MemoryRecords:
    """The task store's twin."""

    def __init__(self, tasks: Iterable[Task] = ()) -> None:
        self.tasks = {task.id: task for task in tasks}
        self.failures: list[Exception] = []
        """Raised by successive writes."""

    def load(self) -> tuple[Task, ...]:
        return tuple(self.tasks.values())

    def put(self, tasks: Iterable[Task]) -> None:
        self._fail()
        for task in tasks:
            known = self.tasks.get(task.id)
            self.tasks[task.id] = task if known is None else replace(task, status=known.status)

    def put_status(self, updates: Iterable[tuple[str, TaskStatus]]) -> None:
        self._fail()
        for task_id, status in updates:
            if task_id in self.tasks:
                self.tasks[task_id] = replace(self.tasks[task_id], status=status)

    def remove(self, task_ids: Iterable[str]) -> None:
        self._fail()
        for task_id in task_ids:
            self.tasks.pop(task_id, None)

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)


class FakeDispatcher:
    """A dispatcher, its links and their provider in one. Attributes ending in `_error` are raised by the next calls."""

    def __init__(self, tasks: Iterable[Task] = ()) -> None:
        self.tasks = {task.id: task for task in tasks}
        self.node = Node(id="node")
        self.root_ca = b"root"
        self.managers = (dispatch.ManagerPeer(node_id="m1", addresses=("127.0.0.1:1",), is_leader=True),)
        self.period_s = 5.0
        self.connect_error: SwarmError | None = None
        self.heartbeat_error: SwarmError | None = None
        self.update_error: SwarmError | None = None
        self.is_silent = False
        """Answer no registration."""
        self.page_size = 1000

        self.connects: list[float] = []
        self.requests: list[dispatch.SessionRequest] = []
        self.heartbeats: list[float] = []
        self.streams = 0
        self.updates: list[dispatch.UpdateStatusRequest] = []
        self.goodbyes: list[dispatch.GoodbyeRequest] = []
        self.learned: list[tuple[dispatch.ManagerPeer, ...]] = []
        self.open_links = 0

        self._reported = trio.Event()
        self._sessions: trio.MemorySendChannel[dispatch.SessionMessage] | None = None
        self._assignments: trio.MemorySendChannel[dispatch.AssignmentsMessage] | None = None
        self._sequence = 0
        self._known_session = ""

    # -- what tests do ------------------------------------------------------------------------------------------------
    @property
    def session_id(self) -> str:
        return self._known_session

    @property
    def states(self) -> dict[str, TaskState]:
        """The last state that was reported of each task."""
        return {update.task_id: update.status.state for request in self.updates for update in request.updates}

    def reports_of(self, task_id: str) -> list[TaskStatus]:
        return [update.status for request in self.updates for update in request.updates if update.task_id == task_id]

    async def until_reported(self, task_id: str, state: TaskState) -> None:
        """Until a report says so; for tests in real time."""
        with trio.fail_after(30):
            while self.states.get(task_id) is not state:
                await self._reported.wait()

    def forget_session(self) -> None:
        """As a new leader would."""
        self._known_session = ""

    def change(self, *tasks: Task, removed: tuple[str, ...] = (), applies_to: str | None = None) -> None:
        """Send a change to the assigned set."""
        assert self._assignments is not None
        base = str(self._sequence)
        self._sequence += 1
        self.tasks |= {task.id: task for task in tasks}
        for task_id in removed:
            self.tasks.pop(task_id, None)
        self._assignments.send_nowait(
            dispatch.AssignmentsMessage(
                applies_to=base if applies_to is None else applies_to,
                results_in=str(self._sequence),
                tasks=tasks,
                removed_tasks=removed,
            )
        )

    def send_session(self) -> None:
        assert self._sessions is not None
        self._sessions.send_nowait(self._message())

    def close_assignments(self) -> None:
        assert self._assignments is not None
        self._assignments.close()

    # -- LinkProvider -------------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def connect(self) -> AsyncIterator[DispatcherLink]:
        self.connects.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if self.connect_error is not None:
            raise self.connect_error
        self.open_links += 1
        try:
            yield self
        finally:
            self.open_links -= 1

    def learned_managers(self, managers: tuple[dispatch.ManagerPeer, ...]) -> None:
        self.learned.append(managers)

    # -- DispatcherLink -----------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def session(self, request: dispatch.SessionRequest) -> AsyncIterator[AsyncIterator[dispatch.SessionMessage]]:
        await trio.lowlevel.checkpoint()
        self.requests.append(request)
        if not request.session_id or request.session_id != self._known_session:
            self._known_session = f"session{len(self.requests)}"
        send, receive = trio.open_memory_channel[dispatch.SessionMessage](STREAM_BUFFER)
        self._sessions = send
        if not self.is_silent:
            send.send_nowait(self._message())
        with send, receive:
            yield receive

    async def heartbeat(self, request: dispatch.HeartbeatRequest) -> dispatch.HeartbeatReply:
        await self._check(request.session_id)
        self.heartbeats.append(trio.current_time())
        if self.heartbeat_error is not None:
            error, self.heartbeat_error = self.heartbeat_error, None
            raise error
        return dispatch.HeartbeatReply(period_s=self.period_s)

    @asynccontextmanager
    async def assignments(
        self, request: dispatch.AssignmentsRequest
    ) -> AsyncIterator[AsyncIterator[dispatch.AssignmentsMessage]]:
        await self._check(request.session_id)
        self.streams += 1
        self._sequence = 1
        send, receive = trio.open_memory_channel[dispatch.AssignmentsMessage](math.inf)
        self._assignments = send
        tasks = tuple(self.tasks.values())
        pages = [tasks[at : at + self.page_size] for at in range(0, len(tasks), self.page_size)] or [()]
        for number, page in enumerate(pages, 1):
            send.send_nowait(
                dispatch.AssignmentsMessage(complete=True, results_in="1", tasks=page, more=number < len(pages))
            )
        with send, receive:
            yield receive

    async def update_status(self, request: dispatch.UpdateStatusRequest) -> dispatch.UpdateStatusReply:
        await self._check(request.session_id)
        if self.update_error is not None:
            error, self.update_error = self.update_error, None
            raise error
        self.updates.append(request)
        self._reported.set()
        self._reported = trio.Event()
        return dispatch.UpdateStatusReply()

    async def goodbye(self, request: dispatch.GoodbyeRequest) -> None:
        await self._check(request.session_id)
        self.goodbyes.append(request)

    async def _check(self, session_id: str) -> None:
        await trio.lowlevel.checkpoint()
        if session_id != self._known_session:
            raise Unavailable("session invalid")

    def _message(self) -> dispatch.SessionMessage:
        return dispatch.SessionMessage(
            session_id=self._known_session,
            node=self.node,
            managers=self.managers,
            root_ca=self.root_ca,
            heartbeat_period_s=self.period_s,
        )


class World:
    """An agent with everything around it."""

    def __init__(self, dispatcher: FakeDispatcher, executor: FakeExecutor, records: MemoryRecords) -> None:
        self.dispatcher = dispatcher
        self.executor = executor
        self.machine = executor.machine
        self.records = records
        self.nodes: list[Node] = []
        self.roots: list[bytes] = []
        self.agent = Agent(
            executor,
            records,
            dispatcher,
            now=lambda: 1000.0 + trio.current_time(),
            rng=random.Random(7),
            on_node=self.nodes.append,
            on_root_ca=self.roots.append,
            run_blocking=inline,
        )

    def again(self) -> World:
        """The same machine and store under a new daemon."""
        return World(self.dispatcher, FakeExecutor(self.machine), self.records)


@asynccontextmanager
async def running(world: World) -> AsyncIterator[trio.Nursery]:
    """`world.agent` runs inside the block."""
    async with trio.open_nursery() as nursery:
        await nursery.start(world.agent.run)
        yield nursery
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool], *, within_s: float = 600.0) -> None:
    """Let virtual time pass, in ever longer steps, until `condition` holds."""
    step_s = 0.01
    with trio.fail_after(within_s):
        while not condition():
            await trio.sleep(step_s)
            step_s = min(step_s * 1.05, 0.5)
