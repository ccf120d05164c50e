"""Fake nodes: each runs the tasks it was given, tells what became of them, crashes, and is cut off.

A task's program is named by its image: `good` runs until it is stopped (or, in a job, a while), `bad` does not start,
`late` ends in failure some seconds after it started, `exit` ends in success.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Final

import trio
from msgspec.structs import replace

from swarmd.errors import SwarmError
from swarmd.model import Task, TaskState, TaskStatus
from swarmd.state.transaction import Transaction
from tests.simulation.plane.log import EPOCH, Log
from tests.simulation.plane.weather import Weather

S = TaskState

REPORT_EVERY_S: Final = 0.1
JOB_S_MAX: Final = 20.0


class LocalTask:
    """A task as its node knows it."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.desired = S.READY
        self.state = S.ASSIGNED
        self.running_at = 0.0
        self.is_running = False
        """Whether its program really runs."""
        self.changed = trio.Event()

    def wanted(self, task: Task | None) -> None:
        """News of it; None: it is withdrawn."""
        self.desired = S.REMOVE if task is None else task.desired_state
        self.task = task or self.task
        self.changed.set()
        self.changed = trio.Event()


class Machine:
    """One node."""

    def __init__(self, id: str, log: Log, weather: Weather, rng: random.Random, lived: Counter[str]) -> None:
        self.id = id
        self.tasks: dict[str, LocalTask] = {}
        self.is_up = True
        self.is_reachable = True
        self.is_gone = False
        """Whether it was removed: it never comes back."""
        self.reachable_since = 0.0
        self.is_calm = False
        """Whether nothing goes wrong by itself any more."""
        self._log = log
        self._weather = weather
        self._rng = rng
        self._lived = lived
        self._reports: dict[str, TaskStatus] = {}
        self._news = trio.Event()
        self._crashed = trio.Event()
        self._has_reports = trio.Event()

    @property
    def is_heard(self) -> bool:
        """Whether the managers hear of it."""
        return self.is_up and self.is_reachable

    # -- what faults do ----------------------------------------------------------------------------------------------
    def crash(self) -> None:
        """All programs end; what the node knows of its tasks survives."""
        self.is_up = False
        self._crashed.set()

    def boot(self) -> None:
        """It comes back, and finds that its tasks do not run any more."""
        if self.is_up or self.is_gone:
            return
        self.is_up = True
        self.reachable_since = trio.current_time()
        self._crashed.set()
        self.look()
        self._has_reports.set()

    def cut(self, *, is_reachable: bool) -> None:
        """A partition, or its end."""
        self.is_reachable = is_reachable
        if is_reachable:
            self.reachable_since = trio.current_time()
            self.look()
            self._has_reports.set()

    # -- its life ----------------------------------------------------------------------------------------------------
    def look(self) -> None:
        """The managers have news."""
        self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._report)
            while True:
                self._crashed = trio.Event()
                if self.is_up:
                    await self._run_until_crash()
                else:
                    await self._crashed.wait()

    async def _run_until_crash(self) -> None:
        for local in self.tasks.values():
            if not local.state.is_terminal:
                self._set(local, S.FAILED, err="the machine restarted")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow, nursery)
            await self._crashed.wait()
            nursery.cancel_scope.cancel()
        for local in self.tasks.values():
            local.is_running = False

    async def _follow(self, nursery: trio.Nursery) -> None:
        """Take over what the managers want, whenever they have news and are heard."""
        while True:
            await self._news.wait()
            await trio.sleep(self._rng.uniform(0.0, 0.2))
            self._news = trio.Event()
            if self.is_reachable:
                self._take_over(self._log.state.tasks_of_node(self.id), nursery)

    def _take_over(self, tasks: Iterable[Task], nursery: trio.Nursery) -> None:
        seen = set()
        for task in tasks:
            if task.status.state < S.ASSIGNED:
                continue
            seen.add(task.id)
            local = self.tasks.get(task.id)
            if local is None:
                if task.status.state.is_terminal:
                    continue
                local = self.tasks[task.id] = LocalTask(task)
                local.wanted(task)
                nursery.start_soon(self._live, local)
            elif local.desired != task.desired_state:
                local.wanted(task)
        for id in [id for id in self.tasks if id not in seen]:
            local = self.tasks[id]
            if local.state.is_terminal:
                del self.tasks[id]
            elif local.desired < S.REMOVE:
                local.wanted(None)

    # -- one task ------------------------------------------------------------------------------------------------------
    async def _live(self, local: LocalTask) -> None:
        rng, weather = self._rng, self._weather
        program = local.task.spec.container.image.partition("-")[0]
        is_unlucky = rng.random() < weather.failures
        self._set(local, S.PREPARING)
        if await self._stopped_within(local, self._pause(5.0)):
            return
        if rng.random() < weather.rejections and not self.is_calm:
            self._set(local, S.REJECTED, err="no such image here")
            return
        self._set(local, S.READY)
        while local.desired <= S.READY:
            await local.changed.wait()
        if local.desired > S.COMPLETE:
            self._set(local, S.SHUTDOWN)
            return
        self._set(local, S.STARTING)
        local.is_running = True
        try:
            await self._run_program(local, program, is_unlucky=is_unlucky)
        finally:
            local.is_running = False

    async def _run_program(self, local: LocalTask, program: str, *, is_unlucky: bool) -> None:
        rng = self._rng
        if await self._stopped_within(local, self._pause(2.0)):
            return
        if program == "bad":
            self._set(local, S.FAILED, err="exit status 1")
            return
        self._set(local, S.RUNNING)
        if program == "late":
            end, lasts_s = S.FAILED, rng.uniform(0.1, 20.0)
        elif program == "exit" or local.desired is S.COMPLETE:
            end, lasts_s = S.COMPLETE, rng.uniform(0.1, JOB_S_MAX)
        else:
            end, lasts_s = S.COMPLETE, float("inf")
        if is_unlucky and not self.is_calm:
            unlucky_s = rng.uniform(0.0, 90.0)
            if unlucky_s < lasts_s:
                if await self._stopped_within(local, unlucky_s):
                    return
                if not self.is_calm:
                    self._set(local, S.FAILED, err="out of luck")
                    return
                lasts_s -= unlucky_s
        if not await self._stopped_within(local, lasts_s):
            self._set(local, end, err="exit status 1" if end is S.FAILED else "")

    async def _stopped_within(self, local: LocalTask, seconds: float) -> bool:
        """Wait, unless the task is wanted no more: then stop it."""
        with trio.move_on_after(seconds):
            while local.desired <= S.COMPLETE:
                await local.changed.wait()
        if local.desired <= S.COMPLETE:
            return False
        if local.is_running:
            await trio.sleep(self._pause(8.0))
        self._set(local, S.SHUTDOWN)
        return True

    def _pause(self, slow_s: float) -> float:
        if self._rng.random() < self._weather.slow and not self.is_calm:
            return self._rng.uniform(1.0, 1.0 + 4 * slow_s)
        return self._rng.uniform(0.01, 0.3)

    # -- reports -----------------------------------------------------------------------------------------------------
    def _set(self, local: LocalTask, state: TaskState, *, err: str = "") -> None:
        local.state = state
        now = EPOCH + trio.current_time()
        if state is S.RUNNING:
            local.running_at = now
        if state.is_terminal:
            local.is_running = False
        self._lived[f"tasks {state.name.lower()}"] += 1
        status = TaskStatus(state=state, at=now, message=state.name.lower(), err=err, running_at=local.running_at)
        self._reports[local.task.id] = status
        self._has_reports.set()

    async def _report(self) -> None:
        while True:
            await self._has_reports.wait()
            await trio.sleep(self._rng.uniform(0.5, 1.5) * REPORT_EVERY_S)
            self._has_reports = trio.Event()
            if not self.is_heard or not self._reports:
                continue
            batch, self._reports = self._reports, {}
            store = self._log.store()
            stamp = self._log.now()
            try:
                await store.update(partial(self._tell, batch=batch, stamp=stamp), actor="dispatcher")
            except SwarmError:
                self._reports = batch | self._reports
                self._has_reports.set()

    def _tell(self, tx: Transaction, batch: dict[str, TaskStatus], stamp: float) -> None:
        for id, status in batch.items():
            tx.report(self.id, id, replace(status, applied_at=stamp))
