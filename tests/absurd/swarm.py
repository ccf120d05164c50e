"""A whole manager on real files, led by itself, with a worker, a node that waits, a service and a task; calls reach it
over real connections in memory."""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import trio
import trio.testing

from swarmd.errors import SwarmError
from swarmd.manager.manager import Manager
from swarmd.model import (
    ContainerSpec,
    IssuanceState,
    Membership,
    Node,
    NodeCertificate,
    NodeDescription,
    NodeSpec,
    RaftConfig,
    Replicated,
    Role,
    Service,
    ServiceSpec,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from swarmd.node.founding import found
from swarmd.raft import SnapshotMeta
from swarmd.state.command import Command, Outcome, Verdict
from swarmd.state.digest import hash_slices, run_through
from swarmd.state.snapshot import encode_snapshot
from swarmd.state.store import State
from swarmd.state.transaction import Transaction
from swarmd.transport.connection import Connection
from swarmd.wire.dispatch import SessionRequest
from swarmd.wire.frames import Headers
from swarmd.wire.identity import Caller, Identity
from swarmd.wire.methods import SESSION as SESSION_METHOD
from swarmd.wire.methods import Method, Shape
from tests.absurd.requests import CSR, MANAGER, SERVICE, SESSION, SWARM, TASK, WAITING, WORKER, exchanged
from tests.unit.manager.local_store import EPOCH
from tests.unit.manager.test_manager import World, make_durable, until_leading
from tests.unit.transport.pairs import connected

CALL_S_MAX: Final = 5.0
STREAM_S: Final = 0.02
"""What a stream is listened to."""


class Prepared:
    """A founded swarm on disk, from which each `Target` gets a copy."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.founding = found(raft=RaftConfig(), now=EPOCH, rng=random.Random(1))
        make_durable(World(path, self.founding), self.founding)

    def copy(self, path: Path) -> World:
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self.path, path)
        return World(path, self.founding)


class Target:
    """The running manager, and who may call it."""

    def __init__(self, manager: Manager, callers: dict[str, Caller], connections: dict[str, Connection]) -> None:
        self.manager = manager
        self.callers = callers
        self.connections = connections
        self.applied: list[tuple[str, Verdict]] = []
        """Actor and fate of each command."""
        self.session_id = ""

    @property
    def state(self) -> State:
        assert self.manager.parts is not None
        return self.manager.parts.driver.state

    def actor(self, who: str) -> str:
        """Who is written as the author of what `who` changes."""
        return self.callers[who].actor

    def placeholders(self) -> dict[str, str]:
        return {
            MANAGER: self.manager._identity.node_id,
            SESSION: self.session_id,
            SWARM: self.manager._identity.swarm_id,
        }

    async def send(self, who: str, method: Method[Any, Any], body: Any, headers: Headers) -> SwarmError | None:
        """The error that it is answered with; None for a reply, and for a stream that has said nothing yet."""
        connection = self.connections[who]
        request = [] if body is None else exchanged(body, self.placeholders())
        plain: Method[Any, Any] = Method(method.name, dict, dict, roles=method.roles, shape=method.shape)
        try:
            if method.shape is Shape.UNARY:
                await connection.call(plain, request, timeout_s=CALL_S_MAX, headers=headers)
            elif method.shape is Shape.SERVER_STREAM:
                async with connection.open(plain, request, headers=headers) as stream:
                    with trio.move_on_after(STREAM_S):
                        await stream.receive()
            else:
                async with connection.open(plain, headers=headers) as stream:
                    await stream.send(request)
                    if method.shape is Shape.CLIENT_STREAM:
                        await stream.end()
                    with trio.move_on_after(STREAM_S):
                        await stream.receive()
        except trio.EndOfChannel:
            return None
        except SwarmError as error:
            return error
        return None

    def check(self) -> None:
        """The state can be written, read again, and is the same; no number in it is none."""
        meta = SnapshotMeta(index=self.state.index, term=1)
        again = State()
        again.restore(meta, list(encode_snapshot(self.state.capture(), meta)))
        capture = self.state.capture()
        assert run_through(hash_slices(again.capture())) == run_through(hash_slices(capture))
        for name, objects in capture.parts():
            for object in objects:
                _require_finite(msgspec.to_builtins(object, builtin_types=(bytes,)), name)


def _require_finite(value: Any, path: str) -> None:
    match value:
        case float():
            assert math.isfinite(value), f"{path} is {value}"
        case dict():
            for name, item in value.items():
                _require_finite(item, f"{path}.{name}")
        case list():
            for item in value:
                _require_finite(item, path)


class _Tap:
    """In front of the audit trail: sees what took effect."""

    def __init__(self, target: Target, inner: Any) -> None:
        self._target = target
        self._inner = inner

    def applied(self, index: int, command: Command, outcome: Outcome, changes: Any, body_bytes: int) -> None:
        self._target.applied.append((command.actor, outcome.verdict))
        self._inner.applied(index, command, outcome, changes, body_bytes)

    def restored(self, before: int, index: int) -> None:
        self._inner.restored(before, index)


@asynccontextmanager
async def running(world: World) -> AsyncIterator[Target]:
    manager = world.manager()
    swarm_id = manager._identity.swarm_id
    callers = {
        "operator": Caller(identity=manager._identity, is_local=True, uid=0),
        "manager": Caller(identity=manager._identity, address="192.0.2.1:1"),
        "worker": Caller(identity=Identity(node_id=WORKER, role=Role.WORKER, swarm_id=swarm_id), address="192.0.2.2:1"),
        "joiner": Caller(address="192.0.2.3:1"),
    }
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        await nursery.start(manager.run)
        await until_leading(manager)
        connections = {
            who: (await stack.enter_async_context(connected(manager.router, seen_by_server=caller))).client
            for who, caller in callers.items()
        }
        target = Target(manager, callers, connections)
        assert manager.parts is not None
        target.state.tap = _Tap(target, target.state.tap)
        await manager.parts.store.update(_furnish, actor="test")
        session = connections["worker"].open(
            SESSION_METHOD, SessionRequest(description=NodeDescription(hostname="worker"))
        )
        stream = await stack.enter_async_context(session)
        target.session_id = (await stream.receive()).session_id
        yield target
        assert manager.parts is not None, "the manager fell"
        await stack.aclose()
        nursery.cancel_scope.cancel()


def _furnish(tx: Transaction) -> None:
    worker = NodeSpec(membership=Membership.ACCEPTED)
    certificate = NodeCertificate(csr=b"another", state=IssuanceState.ISSUED)
    tx.create(Node(id=WORKER, spec=worker, certificate=certificate))
    pending = NodeCertificate(csr=CSR, state=IssuanceState.PENDING)
    tx.create(Node(id=WAITING, spec=NodeSpec(membership=Membership.PENDING), certificate=pending))
    spec = ServiceSpec(name="web", task=TaskSpec(container=ContainerSpec(image="x")), mode=Replicated(replicas=1))
    tx.create(Service(id=SERVICE, spec=spec))
    tx.create(
        Task(id=TASK, service_id=SERVICE, slot=1, node_id=WORKER, spec=spec.task,
             status=TaskStatus(state=TaskState.ASSIGNED), desired_state=TaskState.RUNNING)
    )  # fmt: skip


def callers_of(method: Method[Any, Any]) -> Sequence[str]:
    """Who may make it, the most privileged first; and a worker besides, who may not make most."""
    if method.anonymous:
        return ("joiner", "worker")
    if Role.WORKER in method.roles:
        return ("worker", "manager")
    return ("operator", "worker") if method.socket else ("manager", "worker")
