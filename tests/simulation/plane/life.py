"""One life of a swarm from a seed: a busy time with users and faults, then calm, in which all must come right."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Protocol

import trio
import trio.testing

from swarmd.errors import Unavailable
from swarmd.manager.loops import (
    AllocatorLoop,
    EnforcerLoop,
    LostNodesLoop,
    OrchestratorLoop,
    ReaperLoop,
    SchedulerLoop,
)
from swarmd.model import (
    Availability,
    Cluster,
    Node,
    NodeDescription,
    NodeState,
    NodeStatus,
    Resources,
    TaskState,
    TaskStatus,
)
from swarmd.model.specs import DEFAULT_TASK_HISTORY
from swarmd.node.founding import FEATURES
from swarmd.state.command import Table
from swarmd.state.transaction import Transaction
from swarmd.state.watch import Route
from tests.simulation.plane.checks import Checks, check_converged, check_programs
from tests.simulation.plane.dispatcher import FakeDispatcher
from tests.simulation.plane.log import Log
from tests.simulation.plane.machines import Machine
from tests.simulation.plane.users import NODE_MEMORY, Users, set_availability
from tests.simulation.plane.weather import Weather, draw

CALM_S: Final = 1_800.0
"""Virtual seconds in which everything must have converged ..."""
REST_S: Final = 600.0
"""... and in which nothing is written any more."""
PROGRAMS_EVERY_S: Final = 0.5


class Loop(Protocol):
    """A leader's loop."""

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None: ...


LOOPS: tuple[Callable[..., Loop], ...] = (
    *(OrchestratorLoop, AllocatorLoop, SchedulerLoop, ReaperLoop),
    *(EnforcerLoop, LostNodesLoop),
)


def simulate(
    seed: int, *, weather: Weather | None = None, loops: tuple[Callable[..., Loop], ...] = LOOPS
) -> Counter[str]:
    """Live one life; what it contained. Raises `AssertionError` if something that must hold does not."""
    rng = random.Random(seed)
    lived: Counter[str] = Counter()
    life = Life(weather or draw(rng), rng, lived, loops)
    _make_trio_deterministic(seed)
    logging.disable(logging.CRITICAL)
    try:
        trio.run(life.run, clock=trio.testing.MockClock(autojump_threshold=0))
    except BaseExceptionGroup as group:
        raise _first(group) from group
    finally:
        logging.disable(logging.NOTSET)
    return lived


class Life:
    """Everything in it."""

    def __init__(
        self, weather: Weather, rng: random.Random, lived: Counter[str], loops: tuple[Callable[..., Loop], ...]
    ) -> None:
        self.weather = weather
        self.rng = rng
        self.lived = lived
        self.loops = loops
        self.log = Log(rng, lived, skew_s=weather.skew_s, latency_s=weather.latency_s)
        self.machines: dict[str, Machine] = {}
        self.users = Users(self.log, weather, rng, lived)
        self._deposed = trio.Event()
        self._numbers = 0

    async def run(self) -> None:
        """The whole life."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self.log.run)
            swarm = Cluster(id="swarm", feature_level=tuple(sorted(FEATURES)))
            await self.users.write(lambda tx: tx.create(swarm), "swarms")
            self.log.check = Checks(self.log.states[0], self.machines).after_entry
            for _ in range(self.weather.nodes):
                await self._join()
            nursery.start_soon(self._watch_tasks)
            nursery.start_soon(self._watch_programs)
            nursery.start_soon(self._reign)
            await self._be_busy()
            await self._be_calm()
            nursery.cancel_scope.cancel()
        self.log.check_replicas()
        self.lived["virtual hours"] += int(trio.current_time() // 3600)

    # -- the two times -------------------------------------------------------------------------------------------------
    async def _be_busy(self) -> None:
        weather = self.weather
        with trio.move_on_after(weather.busy_s):
            async with trio.open_nursery() as nursery:
                for rate, act in (
                    (weather.users, self.users.act),
                    (weather.operators, self.users.operate),
                    (weather.depositions, self._depose),
                    (weather.crashes, self._crash),
                    (weather.partitions, self._cut),
                    (weather.departures, self._come_or_go),
                ):
                    if rate:
                        nursery.start_soon(self._now_and_then, rate, act)
                nursery.start_soon(trio.sleep_forever)

    async def _now_and_then(self, rate: float, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            await trio.sleep(self.rng.expovariate(rate))
            with trio.CancelScope(shield=True):  # nothing is left half done when the calm begins
                await act()

    async def _be_calm(self) -> None:
        for machine in self.machines.values():
            machine.is_calm = True
            machine.boot()
            if not machine.is_reachable:
                machine.cut(is_reachable=True)
        for id in list(self.machines):
            await self.users.write(lambda tx, id=id: set_availability(tx, id, Availability.ACTIVE), "healed")
        for service in list(self.log.state.services()):
            await self.users.settle(service)
        await trio.sleep(CALM_S)
        check_converged(self.log.state, history=DEFAULT_TASK_HISTORY)
        await self.users.fill_a_node()
        await trio.sleep(CALM_S)
        check_converged(self.log.state, history=DEFAULT_TASK_HISTORY)
        await self._lose_one()
        check_converged(self.log.state, history=DEFAULT_TASK_HISTORY)
        index = self.log.state.index
        await trio.sleep(REST_S)
        assert self.log.state.index == index, f"{self.log.state.index - index} entries were written at rest"

    async def _lose_one(self) -> None:
        """In all that calm, one node is drained, or does not come back from a crash."""
        machine = self._any_machine()
        assert machine is not None
        if self.rng.random() < 0.5:
            await self.users.write(lambda tx: set_availability(tx, machine.id, Availability.DRAIN), "drained at last")
        else:
            machine.crash()
            self.lived["crashed for good"] += 1
        await trio.sleep(CALM_S)

    # -- reigns --------------------------------------------------------------------------------------------------------
    async def _reign(self) -> None:
        while True:
            self._deposed = trio.Event()
            store = self.log.store()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end_of_reign, nursery.cancel_scope)
                await nursery.start(FakeDispatcher(store, self.machines).run)
                for make in self.loops:
                    await nursery.start(_keep_running, make(store, now=self.log.now, rng=self.rng).run)

    async def _end_of_reign(self, scope: trio.CancelScope) -> None:
        await self._deposed.wait()
        scope.cancel()

    async def _depose(self) -> None:
        self.log.depose()
        self._deposed.set()

    # -- faults --------------------------------------------------------------------------------------------------------
    async def _crash(self) -> None:
        machine = self._any_machine()
        if machine is None or not machine.is_up:
            return
        self.lived["crashes"] += 1
        machine.crash()
        self._nursery.start_soon(self._later, self._absence(), machine.boot)

    async def _cut(self) -> None:
        machine = self._any_machine()
        if machine is None or not machine.is_reachable:
            return
        self.lived["partitions"] += 1
        machine.cut(is_reachable=False)
        self._nursery.start_soon(self._later, self._absence(), lambda: machine.cut(is_reachable=True))

    def _absence(self) -> float:
        return self.rng.choice((1.0, 10.0, 40.0, 120.0)) * self.rng.uniform(0.5, 1.5)

    async def _later(self, seconds: float, act: Callable[[], None]) -> None:
        await trio.sleep(seconds)
        act()

    async def _come_or_go(self) -> None:
        if len(self.machines) > 1 and self.rng.random() < 0.5:
            machine = self._any_machine()
            assert machine is not None
            machine.is_gone = True
            machine.crash()
            del self.machines[machine.id]
            await self.users.write(lambda tx: _remove_node(tx, machine.id), "nodes removed")
        else:
            await self._join()

    async def _join(self) -> None:
        self._numbers += 1
        id = f"n{self._numbers:02}"
        node = Node(
            id=id,
            status=NodeStatus(state=NodeState.UNKNOWN),
            description=NodeDescription(hostname=id, resources=Resources(memory_bytes=NODE_MEMORY)),
        )
        machine = Machine(id, self.log, self.weather, self.rng, self.lived)
        await self.users.write(lambda tx: tx.create(node), "nodes joined")
        self.machines[id] = machine
        self._nursery.start_soon(machine.run)

    def _any_machine(self) -> Machine | None:
        return self.rng.choice(list(self.machines.values())) if self.machines else None

    # -- watching ------------------------------------------------------------------------------------------------------
    async def _watch_tasks(self) -> None:
        """Nodes hear of what is new of their tasks."""
        bell = trio.Event()

        def wake() -> None:
            nonlocal bell
            bell.set()

        subscription = self.log.states[0].subscribe((Route(Table.TASK),), wake=wake)
        while True:
            await bell.wait()
            bell = trio.Event()
            self._tell_nodes(subscription.take())

    def _tell_nodes(self, events: Iterable[Any]) -> None:
        for event in events:
            task = event.new or event.old
            if task.node_id in self.machines:
                self.machines[task.node_id].look()

    async def _watch_programs(self) -> None:
        while True:
            await trio.sleep(PROGRAMS_EVERY_S)
            check_programs(self.log.state, self.machines, self.users.starts_first)


async def _keep_running(
    run: Callable[..., Awaitable[None]], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """A loop that is interrupted because its reign ends is no failure; any other end of one is."""
    try:
        await run(task_status=task_status)
    except* Unavailable:
        await trio.sleep_forever()


def _remove_node(tx: Transaction, id: str) -> None:
    """As the control API does."""
    if tx.node(id) is None:
        return
    status = TaskStatus(state=TaskState.ORPHANED, at=tx.now, message="removed", applied_at=tx.now)
    for task in tx.tasks_of_node(id):
        if task.status.state < TaskState.COMPLETE:
            tx.report(id, task.id, status)
    tx.remove(Table.NODE, id)


def _make_trio_deterministic(seed: int) -> None:
    """As Hypothesis does for Trio: the order in which tasks run is drawn from the seed too."""
    from trio._core import _run

    _run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[attr-defined]
    _run._r.seed(seed)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    return inner
