"""On random histories every decision equals that of a brute-force twin, and every mask equals its recomputation."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Final

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.manager.control_api.node_verdicts import verdict
from swarmd.model import (
    Availability,
    ContainerSpec,
    Driver,
    Endpoint,
    GenericResource,
    Meta,
    Node,
    NodeDescription,
    NodeSpec,
    NodeState,
    NodeStatus,
    Placement,
    PlacementPreference,
    PlacementStrategy,
    Platform,
    Plugin,
    PortConfig,
    PortProtocol,
    PublishMode,
    ResourceLimits,
    ResourceRequirements,
    Resources,
    Role,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from swarmd.model.constraints import matches, parse_constraint
from swarmd.scheduler import Placement as Decision
from swarmd.scheduler import Scheduler
from swarmd.scheduler.nodes import unavailable_reason
from swarmd.scheduler.profile import host_ports
from swarmd.scheduler.room import octave

replace = msgspec.structs.replace

KINDS: Final = ("gpu", "licence")
CONSTRAINTS: Final = (
    *("node.labels.zone==a", "node.labels.zone!=b", "node.labels.rack == A", "node.role==worker"),
    *("engine.labels.disk==ssd", "node.ip==10.0.0.0/16", "node.ip!=10.1.0.2", "node.platform.os==linux"),
    "node.hostname!=n01",
)


class Twin:
    """What the scheduler should know, recomputed from the objects every time it is asked."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.tasks: dict[str, Task] = {}
        self.failures: list[tuple[str, int, str, float]] = []

    def on_node(self, node_id: str) -> list[Task]:
        return [
            t
            for t in self.tasks.values()
            if t.node_id == node_id and TaskState.ASSIGNED <= t.status.state <= TaskState.RUNNING
        ]

    def order(self, task: Task, node: Node, now: float) -> tuple[float | str, ...]:
        failures, count, total, share = self.load(task, node, now)
        if task.spec.placement.strategy is PlacementStrategy.BINPACK:
            return (failures, -share, -total, node.meta.created_at, node.id)
        return (failures, count, total, share, node.meta.created_at, node.id)

    def load(self, task: Task, node: Node, now: float) -> tuple[int, int, int, int]:
        """(failures, active tasks of the service, active tasks, reserved share)."""
        failures = sum(
            1
            for service_id, version, node_id, at in self.failures
            if service_id
            and (service_id, version, node_id) == (task.service_id, task.spec_version, node.id)
            and at > now - 300
        )
        active = [t for t in self.on_node(node.id) if t.desired_state <= TaskState.COMPLETE]
        count = sum(1 for t in active if task.service_id and t.service_id == task.service_id)
        resources = node.description.resources
        held = [t.spec.resources.reservations for t in self.on_node(node.id)]
        shares = [0]
        for has, taken in (
            (resources.nano_cpus, sum(r.nano_cpus for r in held)),
            (resources.memory_bytes, sum(r.memory_bytes for r in held)),
        ):
            if has:
                shares.append(64 * taken // has)
        return (failures if failures >= 5 else 0, count, len(active), min(64, max(shares)))

    def count_of(self, service_id: str, nodes: Iterable[Node]) -> int:
        ids = {node.id for node in nodes}
        return sum(
            1
            for t in self.tasks.values()
            if service_id
            and t.service_id == service_id
            and t.node_id in ids
            and TaskState.ASSIGNED <= t.status.state <= TaskState.RUNNING
            and t.desired_state <= TaskState.COMPLETE
        )

    def fits(self, task: Task, node: Node) -> bool:
        """By the control API's verdicts: the same filters, written for one node at a time."""
        wanted = {"orchestration.1"} if task.spec.log_driver or task.spec.resources.reservations.generic else set()
        if task.node_id not in ("", node.id) or not wanted <= set(node.description.features):
            return False
        return verdict(node, tuple(self.on_node(node.id)), task) == ("", "")

    def best(self, task: Task, now: float) -> str | None:
        """The best of the branch that has the fewest tasks of the service, among those where it fits somewhere."""
        nodes = list(self.nodes.values())
        for preference in task.spec.placement.preferences if task.service_id else ():
            branches: dict[str, list[Node]] = defaultdict(list)
            for node in nodes:
                branches[node.spec.labels.get(preference.spread.removeprefix("node.labels."), "")].append(node)
            able = [value for value, branch in branches.items() if any(self.fits(task, node) for node in branch)]
            if not able:
                return None
            nodes = branches[min(able, key=lambda value: (self.count_of(task.service_id, branches[value]), value))]
        fitting = [node for node in nodes if self.fits(task, node)]
        return min(fitting, key=lambda node: self.order(task, node, now)).id if fitting else None


class History:
    """Random events, told to both."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 1000.0
        self.twin = Twin()
        self.scheduler = Scheduler([], [])
        self.serial = 0
        self.services: dict[str, tuple[TaskSpec, Endpoint | None, int]] = {
            name: (self.random_spec(), self.random_endpoint(), 1) for name in ("", "a", "b", "c")
        }

    def random_spec(self) -> TaskSpec:
        rng = self.rng
        reservations = ResourceLimits(nano_cpus=rng.choice((0, 0, 3, 5)), memory_bytes=rng.choice((0, 0, 4, 9)))
        if rng.random() < 0.3:
            reservations = replace(
                reservations, generic=(GenericResource(kind=rng.choice(KINDS), amount=rng.choice((1, 2))),)
            )
        return TaskSpec(
            container=ContainerSpec(image="x"),
            resources=ResourceRequirements(reservations=reservations),
            log_driver=rng.choice((None,) * 5 + (Driver(name="gelf"), Driver(name="none"))),
            placement=Placement(
                max_replicas=rng.choice((0, 0, 0, 1, 3)),
                constraints=tuple(rng.sample(CONSTRAINTS, k=rng.choice((0, 0, 0, 1, 2)))),
                platforms=rng.choice(((),) * 4 + ((Platform(os="linux", architecture="x86_64"),),)),
                preferences=tuple(
                    PlacementPreference(spread=f"node.labels.{label}")
                    for label in rng.sample(("zone", "rack"), k=rng.choice((0, 0, 1, 2)))
                ),
                strategy=rng.choice((PlacementStrategy.SPREAD,) * 3 + (PlacementStrategy.BINPACK,)),
            ),
        )

    def random_endpoint(self) -> Endpoint | None:
        ports = [(PortProtocol.TCP, 80), (PortProtocol.UDP, 80), (PortProtocol.TCP, 443)]
        chosen = self.rng.sample(ports, k=self.rng.choice((0, 0, 0, 0, 1, 2)))
        modes = (PublishMode.HOST, PublishMode.HOST, PublishMode.INGRESS)
        return Endpoint(
            ports=tuple(
                PortConfig(
                    protocol=protocol,
                    target_port=1,
                    published_port=self.rng.choice((0, port, port)),
                    publish_mode=self.rng.choice(modes),
                )
                for protocol, port in chosen
            )
        )

    def random_description(self, id: str) -> NodeDescription:
        rng = self.rng
        generic = (
            GenericResource(kind="gpu", names=tuple(f"g{i}" for i in range(rng.choice((1, 2, 3))))),
            GenericResource(kind="licence", amount=rng.choice((0, 1, 5))),
        )
        return NodeDescription(
            hostname=id,
            platform=rng.choice((Platform(), Platform(os="linux", architecture="amd64"), Platform(os="linux"))),
            resources=Resources(
                nano_cpus=rng.randrange(0, 40),
                memory_bytes=rng.randrange(0, 60),
                generic=tuple(rng.sample(generic, k=rng.choice((0, 1, 2)))),
            ),
            engine_labels={"disk": rng.choice(("ssd", "SSD", "hdd"))} if rng.random() < 0.7 else {},
            features=("orchestration.1",) if rng.random() < 0.9 else (),
            plugins=rng.choice(((), (Plugin(type="Log", name="gelf:latest"),), (Plugin(type="Log", name="syslog"),))),
        )

    def random_node(self, id: str, created_at: float) -> Node:
        rng = self.rng
        states = (NodeState.READY,) * 6 + (NodeState.DOWN, NodeState.UNKNOWN, NodeState.DISCONNECTED)
        return Node(
            id=id,
            meta=Meta(version=1, created_at=created_at),
            spec=NodeSpec(
                availability=rng.choice((Availability.ACTIVE,) * 4 + (Availability.PAUSE, Availability.DRAIN)),
                labels={
                    label: rng.choice(("a", "b", "A"))
                    for label in rng.sample(("zone", "rack"), k=rng.choice((0, 1, 2)))
                },
            ),
            role=rng.choice((Role.WORKER, Role.MANAGER)),
            status=NodeStatus(
                state=rng.choice(states), confirmed=rng.random() < 0.9, addr=rng.choice(("", "10.0.0.1", "10.1.0.2"))
            ),
            description=self.random_description(id),
        )

    def put_task(self, task: Task) -> None:
        self.twin.tasks[task.id] = task
        self.scheduler.task_changed(task, self.now)

    def step(self) -> None:
        self.now += self.rng.random() * 20
        self.serial += 1
        happenings = (self.node_appears, self.node_changes, self.node_goes, self.tasks_appear, self.tasks_appear)
        happenings += (self.task_moves, self.task_moves, self.task_goes, self.respecify)
        self.rng.choice(happenings)()

    def node_appears(self) -> None:
        node = self.random_node(f"n{self.rng.randrange(100):02}x{self.serial}", self.now)
        self.twin.nodes[node.id] = node
        self.scheduler.node_changed(node)

    def node_changes(self) -> None:
        if self.twin.nodes:
            old = self.rng.choice(list(self.twin.nodes.values()))
            node = self.random_node(old.id, old.meta.created_at)
            self.twin.nodes[node.id] = node
            self.scheduler.node_changed(node)

    def node_goes(self) -> None:
        if self.twin.nodes and self.rng.random() < 0.4:
            id = self.rng.choice(list(self.twin.nodes))
            del self.twin.nodes[id]
            self.scheduler.node_removed(id)

    def respecify(self) -> None:
        name = self.rng.choice(list(self.services))
        self.services[name] = (self.random_spec(), self.random_endpoint(), self.serial)

    def tasks_appear(self) -> None:
        name = self.rng.choice(list(self.services))
        spec, endpoint, version = self.services[name]
        bound = self.rng.choice(list(self.twin.nodes)) if self.twin.nodes and self.rng.random() < 0.1 else ""
        for i in range(self.rng.choice((1, 2, 5, 12, 30))):
            self.put_task(
                Task(
                    id=f"t{self.serial}.{i}",
                    meta=Meta(version=self.serial),
                    service_id=name,
                    node_id=bound,
                    endpoint=endpoint,
                    spec=spec,
                    spec_version=version,
                    status=TaskStatus(state=TaskState.PENDING, at=self.now),
                )
            )

    def task_moves(self) -> None:
        if not self.twin.tasks:
            return
        for task in self.rng.sample(list(self.twin.tasks.values()), k=min(4, len(self.twin.tasks))):
            desired = max(
                task.desired_state, self.rng.choice((TaskState.RUNNING, TaskState.RUNNING, TaskState.SHUTDOWN))
            )
            state = task.status.state
            if state >= TaskState.ASSIGNED:
                state = max(state, self.rng.choice((TaskState.RUNNING, TaskState.FAILED, TaskState.SHUTDOWN)))
                if state == TaskState.FAILED and task.status.state <= TaskState.RUNNING:
                    self.twin.failures.append((task.service_id, task.spec_version, task.node_id, self.now))
            status = replace(task.status, state=state)
            self.put_task(replace(task, meta=Meta(version=self.serial), status=status, desired_state=desired))

    def task_goes(self) -> None:
        if self.twin.tasks:
            id = self.rng.choice(list(self.twin.tasks))
            del self.twin.tasks[id]
            self.scheduler.task_removed(id)

    def place(self) -> None:
        """One pass; each decision is judged in the order in which it was taken."""
        placed, unplaced = self.scheduler.place(self.now, limit=self.rng.choice((3, 1000)))
        assert all(refusal.failure.fix for refusal in unplaced)
        bound = {placement.task_id: self.twin.tasks[placement.task_id].node_id for placement in placed}
        for placement in placed:
            task = self.twin.tasks[placement.task_id]
            assert placement.base == task.meta.version
            assert placement.node_id == self.twin.best(task, self.now)
            status = replace(task.status, state=TaskState.ASSIGNED)
            self.assert_what_was_given_was_free(task, placement)
            written = replace(
                task,
                meta=Meta(version=self.serial),
                node_id=placement.node_id,
                status=status,
                assigned_generic_resources=placement.generic,
            )
            self.twin.tasks[task.id] = written
        for placement in placed:
            if self.rng.random() < 0.2:  # the write was refused
                task = self.twin.tasks[placement.task_id]
                status = replace(task.status, state=TaskState.PENDING)
                self.twin.tasks[task.id] = replace(
                    task,
                    node_id=bound[task.id],
                    status=status,
                    meta=Meta(version=placement.base),
                    assigned_generic_resources=(),
                )
                self.scheduler.refused(task.id)
            else:
                self.scheduler.task_changed(self.twin.tasks[placement.task_id], self.now)

    def assert_what_was_given_was_free(self, task: Task, placement: Decision) -> None:
        described = {one.kind: one for one in self.twin.nodes[placement.node_id].description.resources.generic}
        asked = task.spec.resources.reservations.generic
        assert [one.kind for one in placement.generic] == [one.kind for one in asked]
        held = [one for t in self.twin.on_node(placement.node_id) for one in t.assigned_generic_resources]
        for want, got in zip(asked, placement.generic, strict=True):
            names = described[want.kind].names
            if names:
                taken = {name for one in held if one.kind == want.kind for name in one.names}
                assert got.names == tuple(name for name in names if name not in taken)[: want.amount]
            else:
                assert got == want

    def assert_nothing_left_undone(self) -> None:
        while self.scheduler.has_work:
            self.place()
        for task in self.twin.tasks.values():
            if task.status.state == TaskState.PENDING and task.desired_state <= TaskState.RUNNING:
                assert self.twin.best(task, self.now) is None

    def assert_masks_hold(self) -> None:
        table = self.scheduler._nodes
        for id, node in self.twin.nodes.items():
            info = table.find(id)
            assert info is not None
            bit = 1 << info.number
            on_node = self.twin.on_node(id)
            active = Counter(t.service_id for t in on_node if t.desired_state <= TaskState.COMPLETE)
            assert info.tasks == len(on_node)
            assert info.total == active.total()
            assert info.free_cpus == node.description.resources.nano_cpus - sum(
                t.spec.resources.reservations.nano_cpus for t in on_node
            )
            assert [total for total, mask in table.levels.items() if mask & bit] == [info.total]
            assert [share for share, mask in table.shares.items() if mask & bit] == [info.share]
            self.assert_generic_and_ports_hold(node, info.number)
            for text in CONSTRAINTS:
                constraint = parse_constraint(text)
                assert bool(table.meeting(constraint) & bit) is matches(node, constraint)
            for key, (value, held) in {
                "node.labels.zone": (node.spec.labels.get("zone", ""), table.values("node.labels.zone")),
                "node.labels.rack": (node.spec.labels.get("rack", ""), table.values("node.labels.rack")),
            }.items():
                assert [v for v, numbers in held.items() if info.number in numbers] == [value]
                assert table.value_mask(key, value) & bit
            assert bool(table.available & bit) is (not unavailable_reason(node))
            assert table.everyone & bit
            octaves = [key for key, mask in table.memory._masks.items() if mask & bit]
            assert octaves == [octave(info.free_memory)]
            for name in ("a", "b", "c"):
                counts = table.services.get(name)
                held = [] if counts is None else [c for c, mask in counts.by_count.items() if mask & bit]
                assert held == ([active[name]] if active[name] else [])
        for text in CONSTRAINTS:
            assert table.meeting(parse_constraint(text)) & ~table.everyone == 0
        assert table.everyone.bit_count() == len(self.twin.nodes)
        assert table.reasons == Counter(r for n in self.twin.nodes.values() if (r := unavailable_reason(n)))

    def assert_generic_and_ports_hold(self, node: Node, number: int) -> None:
        table = self.scheduler._nodes
        on_node = self.twin.on_node(node.id)
        held = [one for t in on_node for one in t.assigned_generic_resources]
        described = {one.kind: one for one in node.description.resources.generic}
        for kind in KINDS:
            free = 0
            if kind in described:
                taken = [one for one in held if one.kind == kind]
                names = {name for one in taken for name in one.names}
                one = described[kind]
                free = len(set(one.names) - names) if one.names else one.amount - sum(t.amount for t in taken)
            assert table.generic.free(number, kind) == free
            room = table.generic.rooms.get(kind)
            octaves = [key for key, mask in room._masks.items() if mask >> number & 1] if room is not None else []
            assert octaves == ([octave(free)] if kind in described else [])
        ports = {port for t in on_node for port in host_ports(t)}
        assert {port for port, mask in table.ports.taken.items() if mask >> number & 1} == ports


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_decisions_equal_brute_force_on_random_histories(seed: int) -> None:
    history = History(seed)
    for _ in range(40):
        history.step()
        if history.rng.random() < 0.5:
            history.place()
        history.assert_masks_hold()
    history.assert_nothing_left_undone()
    history.assert_masks_hold()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_new_leader_decides_as_the_old_one_would_have(seed: int) -> None:
    history = History(seed)
    for _ in range(30):
        history.step()
    while history.scheduler.has_work:
        history.place()
    heir = Scheduler(
        history.rng.sample(list(history.twin.nodes.values()), k=len(history.twin.nodes)), history.twin.tasks.values()
    )
    heir.place(history.now, limit=10_000)  # explains what cannot be placed
    history.twin.failures.clear()  # failures of deleted records are forgotten
    history.scheduler._failures._times.clear()
    heir._failures._times.clear()
    task = Task(
        id="probe",
        service_id="a",
        spec=history.services[""][0],
        spec_version=9,
        status=TaskStatus(state=TaskState.PENDING),
    )
    for scheduler in (history.scheduler, heir):
        scheduler.task_changed(task, history.now)
    placed, _ = history.scheduler.place(history.now, limit=1000)
    assert [p for p in heir.place(history.now, limit=1000)[0] if p.task_id == "probe"] == [
        p for p in placed if p.task_id == "probe"
    ]
