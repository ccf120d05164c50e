"""A reign for tests: a store, a dispatcher that runs, and nodes that register."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import trio

from swarmd.manager.dispatcher import Dispatcher
from swarmd.model import (
    Cluster,
    ContainerSpec,
    Node,
    NodeDescription,
    NodeState,
    NodeStatus,
    Role,
    RootCA,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from swarmd.wire.dispatch import (
    AssignmentsRequest,
    GoodbyeRequest,
    HeartbeatRequest,
    ManagerPeer,
    ReportedStatus,
    SessionMessage,
    SessionRequest,
    UpdateStatusReply,
    UpdateStatusRequest,
)
from tests.unit.manager.local_store import LocalStore

PERIOD_S = 5.0
GRACE_S_MAX = 3 * PERIOD_S * 1.1
GRACE_S_MIN = 3 * PERIOD_S * 0.9
N1 = "node1" + "0" * 20
N2 = "node2" + "0" * 20
DESCRIPTION = NodeDescription(hostname="box")
REGISTER = SessionRequest(description=DESCRIPTION)


def node(id: str, state: NodeState = NodeState.UNKNOWN, *, confirmed: bool = False) -> Node:
    return Node(id=id, status=NodeStatus(state=state, confirmed=confirmed))


def task_id(number: int) -> str:
    return f"task{number:021d}"


def task(
    number: int,
    node_id: str = N1,
    state: TaskState = TaskState.ASSIGNED,
    *,
    env: tuple[str, ...] = (),
    desired: TaskState = TaskState.RUNNING,
) -> Task:
    return Task(
        id=task_id(number),
        service_id="service",
        slot=number,
        node_id=node_id,
        spec=TaskSpec(container=ContainerSpec(image="i", env=env)),
        status=TaskStatus(state=state),
        desired_state=desired,
    )


class World:
    """The store, and one dispatcher at a time."""

    def __init__(self, *nodes: Node, latency_s: float = 0.0) -> None:
        self.store = LocalStore(latency_s=latency_s)
        self.store.create(Cluster(id="swarm", root_ca=RootCA(certificate=b"root")), *nodes)
        self.revoked: tuple[str, ...] = ()
        self.managers: tuple[ManagerPeer, ...] = (ManagerPeer(node_id=N1, addresses=("a:1",), is_leader=True),)
        self.storms: list[tuple[str, str]] = []
        """Node and address of each burst of registrations that was told of."""
        self.dispatcher = self._new_dispatcher()

    def _new_dispatcher(self) -> Dispatcher:
        return Dispatcher(
            self.store,
            managers=lambda: self.managers,
            revoked=lambda: self.revoked,
            now=self.store.now,
            rng=random.Random(self.store.term),
            on_storm=lambda node_id, address, question: self.storms.append((node_id, address)),
        )

    @asynccontextmanager
    async def reign(self) -> AsyncIterator[Dispatcher]:
        """A term of leadership, with a dispatcher of its own."""
        self.dispatcher = self._new_dispatcher()
        async with trio.open_nursery() as nursery:
            await nursery.start(self.dispatcher.run)
            yield self.dispatcher
            nursery.cancel_scope.cancel()
        self.store.term += 1

    # -- looking ----------------------------------------------------------------------------------------------
    def node(self, id: str) -> Node:
        found = self.store.state.node(id)
        assert found is not None
        return found

    def status(self, id: str) -> NodeStatus:
        return self.node(id).status

    def state(self, id: str) -> NodeState:
        return self.node(id).status.state

    def task(self, number: int) -> Task:
        found = self.store.state.task(task_id(number))
        assert found is not None
        return found

    # -- intervening ------------------------------------------------------------------------------------------
    def update(self, object: Node | Task, **changes: object) -> None:
        """Change fields of the object as it is stored now."""
        state = self.store.state
        present = state.node(object.id) if isinstance(object, Node) else state.task(object.id)
        assert present is not None
        self.store.write(lambda tx: tx.update(msgspec.structs.replace(present, **changes)))

    def update_cluster(self, **changes: object) -> None:
        cluster = self.store.state.cluster()
        assert cluster is not None
        self.store.write(lambda tx: tx.update(msgspec.structs.replace(cluster, **changes)))

    # -- being a node -----------------------------------------------------------------------------------------
    async def beat(self, id: str, first: SessionMessage) -> float:
        reply = await self.dispatcher.heartbeat(id, HeartbeatRequest(session_id=first.session_id))
        return reply.period_s

    async def report(self, id: str, first: SessionMessage, *statuses: tuple[int, TaskStatus]) -> UpdateStatusReply:
        updates = tuple(ReportedStatus(task_id=task_id(number), status=status) for number, status in statuses)
        request = UpdateStatusRequest(session_id=first.session_id, updates=updates)
        return await self.dispatcher.update_status(id, request)

    async def goodbye(self, id: str, first: SessionMessage, *, leaving: bool = False) -> None:
        await self.dispatcher.goodbye(id, GoodbyeRequest(session_id=first.session_id, leaving=leaving))

    def assignments(self, id: str, first: SessionMessage):  # type: ignore[no-untyped-def]
        return self.dispatcher.assignments(id, AssignmentsRequest(session_id=first.session_id))


def as_role(node: Node, role: Role) -> dict[str, object]:
    """Changes that make it the operator's wish."""
    return {"spec": msgspec.structs.replace(node.spec, desired_role=role)}


async def settle() -> None:
    """Let everybody finish what can be finished without time passing."""
    await trio.testing.wait_all_tasks_blocked()
