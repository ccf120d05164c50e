"""What people do: services by the product's own control API, nodes by their specs."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import trio
from msgspec.structs import replace

from swarmd.errors import SwarmError
from swarmd.manager.control_api.access import Access
from swarmd.manager.control_api.rebalance import RebalanceHandlers
from swarmd.manager.control_api.services import ServiceHandlers
from swarmd.model import (
    Availability,
    ContainerSpec,
    EndpointSpec,
    FailureAction,
    Global,
    GlobalJob,
    Mode,
    Node,
    Placement,
    PlacementPreference,
    PlacementStrategy,
    PortConfig,
    PublishMode,
    Replicated,
    ReplicatedJob,
    ResourceLimits,
    ResourceRequirements,
    RestartCondition,
    RestartPolicy,
    Role,
    Service,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
    UpdateOrder,
)
from swarmd.orchestrator.revision import is_job
from swarmd.state.transaction import Transaction
from swarmd.wire.control import CreateService, RemoveObject, UpdateService
from swarmd.wire.frames import Headers
from swarmd.wire.identity import Caller, Identity
from swarmd.wire.methods import (
    SERVICE_CREATE,
    SERVICE_REBALANCE,
    SERVICE_REMOVE,
    SERVICE_ROLLBACK,
    SERVICE_UPDATE,
    Method,
)
from swarmd.wire.orchestration import RebalanceService, RollbackService
from tests.simulation.plane.log import Log
from tests.simulation.plane.weather import Weather

Resp = TypeVar("Resp")

OPERATOR: Final = Caller(identity=Identity(node_id="m1", role=Role.MANAGER, swarm_id="swarm"), is_local=True)
ZONES: Final = ("a", "b", "")
MIB: Final = 1 << 20
NODE_MEMORY: Final = 64 * MIB
CONSTRAINTS: Final = ((), (), ("node.labels.zone==a",), ("node.labels.zone!=b",))
PROGRAMS: Final = ("good", "good", "good", "bad", "late", "exit")
SOUND: Final = "good-0"
TRIES_MAX: Final = 20


class _Call:
    """A `Call` as a handler sees it."""

    def __init__(self, method: Method[Any, Any]) -> None:
        self.method = method
        self.headers = Headers()
        self.deadline = float("inf")
        self.caller = OPERATOR


class Users:
    """Operators of one swarm."""

    def __init__(self, log: Log, weather: Weather, rng: random.Random, lived: Counter[str]) -> None:
        self._log = log
        self._weather = weather
        self._rng = rng
        self._lived = lived
        self.starts_first: set[str] = set()
        """Services (names) that may have been updated start-first."""

    async def ask(self, method: Method[Any, Resp], request: Any) -> Resp | None:
        """Call the present leader's control API; None if it refused or was deposed."""
        store = self._log.store()

        async def linearize() -> None:
            await trio.lowlevel.checkpoint()

        access = Access(store, linearize=linearize, recall=lambda _key, _actor: None)
        handlers: dict[Any, Any] = {**ServiceHandlers(access).handlers(), **RebalanceHandlers(access).handlers()}
        handler = handlers[method]
        spec = getattr(request, "spec", None)
        if spec is not None and UpdateOrder.START_FIRST in (spec.update.order, spec.rollback.order):
            self.starts_first.add(spec.name)
        try:
            reply = await handler(_Call(method), request)
        except SwarmError as error:
            self._lived[f"{method.name} {type(error).__name__}"] += 1
            return None
        self._lived[method.name] += 1
        return cast("Resp", reply)

    async def write(self, fn: Callable[[Transaction], object], what: str) -> None:
        """A change of nodes, tried until a leader takes it."""
        while True:
            try:
                await self._log.store().update(fn, actor="operator")
            except SwarmError:
                await trio.sleep(0.2)
            else:
                self._lived[what] += 1
                return

    # -- services ----------------------------------------------------------------------------------------------------
    async def act(self) -> None:
        """One thing that somebody does with services."""
        rng = self._rng
        services = list(self._log.state.services())
        if len(services) < self._weather.services and rng.random() < 0.6:
            await self.ask(SERVICE_CREATE, CreateService(spec=self._new_spec()))
        elif services:
            service = rng.choice(services)
            if rng.random() < 0.08:
                await self.ask(SERVICE_REMOVE, RemoveObject(id=service.id))
            else:
                await self._change(service)

    async def _change(self, service: Service) -> None:
        rng, spec = self._rng, service.spec
        if service.previous_spec is not None and rng.random() < 0.1:
            await self.ask(SERVICE_ROLLBACK, RollbackService(id=service.id))
            return
        if isinstance(spec.mode, Replicated) and rng.random() < 0.1:
            await self.ask(SERVICE_REBALANCE, RebalanceService(id=service.id, max_moves=rng.randint(0, 2)))
            return
        match rng.randrange(7):
            case 0 if isinstance(spec.mode, Replicated):
                spec = replace(spec, mode=Replicated(replicas=rng.randint(0, 6)))
            case 1:
                spec = replace(spec, task=replace(spec.task, force_update=spec.task.force_update + 1))
            case 2 if not is_job(spec):
                spec = replace(spec, update=self._update_config(), rollback=self._update_config())
            case 3:
                spec = replace(spec, task=replace(spec.task, resources=self._resources()))
            case 4:
                placement = self._placement()
                spec = replace(spec, task=replace(spec.task, placement=placement))
            case _:
                spec = replace(spec, task=replace(spec.task, container=ContainerSpec(image=self._image())))
        await self.ask(SERVICE_UPDATE, UpdateService(id=service.id, spec=spec))

    def _new_spec(self) -> ServiceSpec:
        rng = self._rng
        restart = RestartPolicy(
            condition=rng.choice((RestartCondition.ANY, RestartCondition.ON_FAILURE, RestartCondition.NONE)),
            delay_s=rng.choice((0.0, 1.0, 5.0)),
            max_attempts=rng.choice((0, 0, 1, 3)),
            window_s=rng.choice((0.0, 30.0)),
        )
        task = TaskSpec(
            container=ContainerSpec(image=self._image()),
            restart=restart,
            resources=self._resources(),
            placement=self._placement(),
        )
        ports = self._ports()
        spec = ServiceSpec(
            name=f"s{rng.randrange(100)}", task=task, mode=self._mode(), endpoint=EndpointSpec(ports=ports)
        )
        return spec if is_job(spec) else replace(spec, update=self._update_config(), rollback=self._update_config())

    def _placement(self) -> Placement:
        rng = self._rng
        return Placement(
            constraints=rng.choice(CONSTRAINTS),
            preferences=(PlacementPreference(spread="node.labels.zone"),) if rng.random() < 0.3 else (),
            max_replicas=rng.choice((0, 0, 2)),
            strategy=PlacementStrategy.BINPACK if rng.random() < 0.2 else PlacementStrategy.SPREAD,
        )

    def _ports(self) -> tuple[PortConfig, ...]:
        """Mostly none; some that the swarm numbers, one that several may ask for, one of the node."""
        host = PortConfig(target_port=80, published_port=9000, publish_mode=PublishMode.HOST)
        choices = (PortConfig(target_port=80), PortConfig(target_port=80, published_port=8080), host)
        return tuple(self._rng.sample(choices, self._rng.choice((0, 0, 0, 1, 2))))

    def _mode(self) -> Mode:
        rng = self._rng
        match rng.randrange(6):
            case 0:
                return Global()
            case 1:
                return ReplicatedJob(total_completions=rng.randint(0, 8), max_concurrent=rng.randint(0, 3))
            case 2:
                return GlobalJob(follow_nodes=rng.random() < 0.5)
            case _:
                return Replicated(replicas=rng.randint(0, 6))

    def _update_config(self) -> UpdateConfig:
        rng = self._rng
        return UpdateConfig(
            parallelism=rng.randint(0, 3),
            delay_s=rng.choice((0.0, 1.0, 10.0)),
            failure_action=rng.choice(tuple(FailureAction)),
            monitor_s=rng.choice((0.0, 5.0, 30.0)),
            max_failure_ratio=rng.choice((0.0, 0.0, 0.3, 1.0)),
            order=rng.choice(tuple(UpdateOrder)),
            progress_timeout_s=rng.choice((0.0, 60.0, 600.0)),
        )

    def _image(self) -> str:
        return f"{self._rng.choice(PROGRAMS)}-{self._rng.randrange(3)}"

    def _resources(self) -> ResourceRequirements:
        memory = self._rng.choice((0, 0, 8 * MIB, 24 * MIB))
        return ResourceRequirements(reservations=ResourceLimits(memory_bytes=memory))

    async def settle(self, service: Service) -> None:
        """Replace what cannot run by what can, so that the service must converge."""
        spec = service.spec
        task = replace(
            spec.task,
            container=ContainerSpec(image=SOUND),
            resources=ResourceRequirements(),
            restart=RestartPolicy(),
            force_update=spec.task.force_update + 1,
        )
        if isinstance(spec.mode, Replicated | ReplicatedJob):  # there may be no such node
            task = replace(task, placement=Placement())
        ingress = tuple(port for port in spec.endpoint.ports if port.publish_mode is PublishMode.INGRESS)
        spec = replace(spec, task=task, endpoint=EndpointSpec(ports=ingress))
        if not is_job(spec):
            update = replace(spec.update, failure_action=FailureAction.PAUSE, progress_timeout_s=0.0)
            spec = replace(spec, update=update)
        request = UpdateService(id=service.id, spec=spec)
        for _ in range(TRIES_MAX):
            if await self.ask(SERVICE_UPDATE, request) is not None:
                return
            await trio.sleep(0.5)
        raise AssertionError(f"nobody could update {spec.name}")

    async def fill_a_node(self) -> None:
        """Ask for one task as large as the largest node, which nothing else reserves anything of by now."""
        memory = max((node.description.resources.memory_bytes for node in self._log.state.nodes()), default=0)
        reservations = ResourceLimits(memory_bytes=memory)
        task = TaskSpec(container=ContainerSpec(image=SOUND), resources=ResourceRequirements(reservations=reservations))
        for _ in range(TRIES_MAX):
            if await self.ask(SERVICE_CREATE, CreateService(spec=ServiceSpec(name="large", task=task))) is not None:
                return
            await trio.sleep(0.5)
        raise AssertionError("nobody could create a service")

    # -- nodes -------------------------------------------------------------------------------------------------------
    async def operate(self) -> None:
        """One thing that somebody does with a node."""
        rng = self._rng
        nodes = list(self._log.state.nodes())
        if not nodes:
            return
        id = rng.choice(nodes).id
        match rng.randrange(4):
            case 0:
                await self.write(lambda tx: _set_zone(tx, id, rng.choice(ZONES)), "labels")
            case 1:
                memory = rng.choice((NODE_MEMORY // 4, NODE_MEMORY))
                await self.write(lambda tx: _set_memory(tx, id, memory), "capacities")
            case _:
                availability = rng.choice(tuple(Availability))
                await self.write(lambda tx: set_availability(tx, id, availability), "availabilities")


def _edit(tx: Transaction, id: str, edit: Callable[[Node], Node]) -> None:
    node = tx.node(id)
    if node is not None and (changed := edit(node)) != node:
        tx.update(changed)


def _set_zone(tx: Transaction, id: str, zone: str) -> None:
    _edit(tx, id, lambda node: replace(node, spec=replace(node.spec, labels={"zone": zone} if zone else {})))


def _set_memory(tx: Transaction, id: str, memory: int) -> None:
    def edit(node: Node) -> Node:
        resources = replace(node.description.resources, memory_bytes=memory)
        return replace(node, description=replace(node.description, resources=resources))

    _edit(tx, id, edit)


def set_availability(tx: Transaction, id: str, availability: Availability) -> None:
    """As `swarmctl node update --availability` does."""
    _edit(tx, id, lambda node: replace(node, spec=replace(node.spec, availability=availability)))
