"""A control API over the real state, without Raft below it: members, reads and the clock are the test's to set."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar, cast

import trio
from msgspec.structs import replace

from swarmd.errors import SwarmError
from swarmd.manager.control_api import ControlApi, DigestDetail, MemberDetail, MemberView, RaftDetail, RaftView
from swarmd.manager.external_ca import ExternalSigners
from swarmd.model import (
    Cluster,
    ContainerSpec,
    JoinTokens,
    Node,
    NodeCertificate,
    NodeDescription,
    NodeSpec,
    NodeState,
    NodeStatus,
    Replicated,
    Role,
    RootCA,
    ServiceSpec,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
)
from swarmd.pki import Authority
from swarmd.state.transaction import Transaction
from swarmd.transport.connection import Call
from swarmd.wire.control import Reachability
from swarmd.wire.frames import Headers
from swarmd.wire.identity import Caller, Identity
from swarmd.wire.methods import Method
from tests.unit.manager.local_store import EPOCH, LocalStore

Req = TypeVar("Req")
Resp = TypeVar("Resp")

SWARM = "swarm0000000000000000000x"
ROOT = Authority.create(EPOCH).certificate
CA_KEY = b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIFoXAbnYvTest\n-----END PRIVATE KEY-----\n"
OPERATOR = Caller(identity=Identity(node_id="m1", role=Role.MANAGER, swarm_id=SWARM), is_local=True)


class FakeCall:
    """A `Call` as a handler sees it."""

    def __init__(self, method: Method[Any, Any], headers: Headers, deadline: float, caller: Caller) -> None:
        self.method = method
        self.headers = headers
        self.deadline = deadline
        self.caller = caller


class World:
    """`raft` answers for Raft and for this node."""

    def __init__(self) -> None:
        self.store = LocalStore()
        self.raft = FakeRaft()
        self.linearized = 0
        self.linearize: Callable[[], Awaitable[None]] | None = None
        """What a read index does beside being counted."""
        self.refusals: dict[str, SwarmError] = {}
        """By the method that may not act now."""
        api = ControlApi(
            self.store,
            membership=lambda: cast("RaftView", self.raft),
            local=self.raft,
            linearize=self._linearize,
            recall=self.store.state.known_result,
            admit=self._admit,
            now=lambda: EPOCH,
            rng=self.store.rng,
            signers=ExternalSigners(self._no_context),
        )
        self.handlers: dict[Method[Any, Any], Any] = api.handlers()

    def _no_context(self, roots: bytes) -> Any:
        raise AssertionError("this world has no external CA")

    def _admit(self, method: Method[Any, Any]) -> None:
        if method.name in self.refusals:
            raise self.refusals[method.name]

    async def _linearize(self) -> None:
        await trio.lowlevel.checkpoint()
        self.linearized += 1
        if self.linearize is not None:
            await self.linearize()

    async def ask(
        self,
        method: Method[Req, Resp],
        request: Req,
        *,
        key: bytes = b"",
        seen_index: int = 0,
        stale: bool = False,
        timeout_s: float = float("inf"),
        caller: Caller = OPERATOR,
    ) -> Resp:
        """What the handler of `method` answers."""
        headers = Headers(key=key, seen_index=seen_index, stale=stale)
        call = FakeCall(method, headers, trio.current_time() + timeout_s, caller)
        reply = await self.handlers[method](cast("Call", call), request)
        assert isinstance(reply, method.response)
        return reply

    def add_cluster(self) -> Cluster:
        cluster = Cluster(
            id=SWARM,
            root_ca=RootCA(
                certificate=ROOT,
                key=CA_KEY,
                digest="d" * 50,
                join_tokens=JoinTokens(worker="SWMTKN-1-w", manager="SWMTKN-1-m"),
            ),
        )
        self.store.create(cluster)
        return cluster

    def raise_feature_level(self, *features: str) -> None:
        """Every manager knows these now."""

        def fn(tx: Transaction) -> None:
            cluster = tx.cluster()
            assert cluster is not None
            tx.update(replace(cluster, feature_level=tuple(sorted({*cluster.feature_level, *features}))))

        self.store.write(fn)

    def add_node(self, id: str, *, member: int = 0, state: NodeState = NodeState.READY, **spec: Any) -> Node:
        """A worker, or with `member` a manager that takes part in Raft under that id."""
        role = Role.MANAGER if member else Role.WORKER
        node = Node(
            id=id,
            role=role,
            spec=NodeSpec(**({"desired_role": role} | spec)),
            description=NodeDescription(hostname=f"host-{id}"),
            status=NodeStatus(state=state),
            certificate=NodeCertificate(
                role=role, csr=b"THE REQUEST", certificate=b"THE CERTIFICATE", expires_at=EPOCH + 1000
            ),
        )
        self.store.create(node)
        if member:
            self.raft.member_views += (
                MemberView(member_id=member, node_id=id, addresses=(f"{id}:1",), reachability=Reachability.REACHABLE),
            )
        return node

    def add_tasks(self, tasks: Iterable[Task]) -> None:
        self.store.create(*tasks)


class FakeRaft:
    """Implements `RaftView` and `LocalNode`."""

    def __init__(self) -> None:
        self.member_views: tuple[MemberView, ...] = ()
        self.is_leader = True
        self.leader_node_id = "m1"
        self.term = 7
        self.commit_index = 70
        self.node_id = "m1"
        self.swarm_id = SWARM
        self.remote_addresses = ("m1:1",)
        self.session = "connected"
        self.leader_contact_s: float | None = 0.3
        self.details: dict[int, MemberDetail] = {}
        self.digests = DigestDetail()

    def members(self) -> tuple[MemberView, ...]:
        return self.member_views

    def detail(self) -> RaftDetail:
        return RaftDetail(
            member_id=1,
            role="leader" if self.is_leader else "follower",
            first_index=5,
            last_index=72,
            snapshot_index=4,
            removed_members=2,
            members=self.details,
            digests=self.digests,
        )

    def cut_off(self, *node_ids: str) -> None:
        """These members do not answer."""
        self.member_views = tuple(
            replace(view, reachability=Reachability.UNREACHABLE) if view.node_id in node_ids else view
            for view in self.member_views
        )


def service_spec(name: str = "web", *, replicas: int = 1, image: str = "app:1") -> ServiceSpec:
    return ServiceSpec(
        name=name, task=TaskSpec(container=ContainerSpec(image=image)), mode=Replicated(replicas=replicas)
    )


def task_of(id: str, service_id: str, *, slot: int = 1, node: str = "", state: TaskState = TaskState.RUNNING) -> Task:
    return Task(
        id=id,
        service_id=service_id,
        service_name=f"name-{service_id}",
        slot=slot,
        node_id=node,
        spec=TaskSpec(container=ContainerSpec(image="app:1")),
        status=TaskStatus(state=state, at=EPOCH),
    )
