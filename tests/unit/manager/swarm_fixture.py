"""A little swarm for tests of certificates: a store with a cluster, its authority, and calls on a `CAServer`."""

from __future__ import annotations

import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import trio
from msgspec.structs import replace

from swarmd.errors import DeadlineExceeded, SwarmError
from swarmd.manager.ca_server import CAServer
from swarmd.model import Cluster, JoinTokens, Node, NodeSpec, RemovedNode, Role, RootCA
from swarmd.pki import Authority, new_key_and_csr, new_token, root_digest
from swarmd.state.command import Table
from swarmd.state.transaction import Transaction
from swarmd.transport.connection import Call
from swarmd.wire.frames import Headers
from swarmd.wire.identity import Caller, Identity
from swarmd.wire.methods import CA_ISSUE, CA_ROOT, CA_STATUS, Method
from tests.unit.manager.local_store import EPOCH, LocalStore

SWARM = "swarm00000000000000000000"


class FakeCall:
    """A `Call` as a handler sees it."""

    def __init__(self, method: Method[Any, Any], caller: Caller, deadline: float) -> None:
        self.method = method
        self.caller = caller
        self.headers = Headers()
        self.deadline = deadline


def call_of(caller: Caller, *, timeout_s: float = float("inf"), method: Method[Any, Any] = CA_ISSUE) -> Call:
    """A call by `caller`."""
    return cast("Call", FakeCall(method, caller, trio.current_time() + timeout_s))


def identity(node_id: str, role: Role = Role.WORKER, *, swarm_id: str = SWARM) -> Identity:
    """What a verified certificate would say."""
    return Identity(node_id=node_id, role=role, swarm_id=swarm_id)


class Swarm:
    """A store with a bootstrapped cluster and one CA server in front."""

    def __init__(self) -> None:
        self.store = LocalStore()
        self.authority = Authority.create(EPOCH)
        self.root = self.authority.certificate
        digest = root_digest(self.root)
        self.tokens = JoinTokens(
            worker=new_token(digest, random.Random(10)), manager=new_token(digest, random.Random(11))
        )
        self.store.create(
            Cluster(
                id=SWARM,
                root_ca=RootCA(certificate=self.root, key=self.authority.key, digest=digest, join_tokens=self.tokens),
                feature_level=("base.1", "join.1"),
            )
        )
        self.server = CAServer(self.store, local_root=lambda: self.root)
        self.leaf = self._leaf_of(self.authority)
        """What a manager shows in its handshake (DER)."""
        self.log: list[str] = []
        """Names of the methods called, in order."""
        self.failures: dict[str, list[SwarmError]] = {}
        """Method name -> errors that its next calls end with."""
        self.lose_replies: set[str] = set()
        """Names of methods whose next reply is lost after the work was done."""

    @staticmethod
    def _leaf_of(authority: Authority) -> bytes:
        _, csr = new_key_and_csr()
        leaf = authority.sign(csr, node_id="m1", role=Role.MANAGER, swarm_id=SWARM, now=EPOCH, expiry_s=86_400.0)
        return ssl.PEM_cert_to_DER_cert(leaf.decode())

    def node(self, node_id: str) -> Node:
        node = self.store.state.node(node_id)
        assert node is not None
        return node

    def add_node(self, node_id: str, role: Role = Role.WORKER) -> Node:
        self.store.create(Node(id=node_id, role=role, spec=NodeSpec(desired_role=role)))
        return self.node(node_id)

    def change_ca(self, **fields: Any) -> None:
        """Set some of the cluster's CA settings."""

        def fn(tx: Transaction) -> None:
            cluster = tx.cluster()
            assert cluster is not None
            tx.update(replace(cluster, spec=replace(cluster.spec, ca=replace(cluster.spec.ca, **fields))))

        self.store.write(fn)

    def reject(self, node_id: str) -> None:
        """As an operator does."""

        def fn(tx: Transaction) -> None:
            tx.create(RemovedNode(id=node_id, expires_at=EPOCH + 1))
            tx.remove(Table.NODE, node_id)

        self.store.write(fn)

    async def call(self, method: Method[Any, Any], request: Any, caller: Caller, *, timeout_s: float = 5.0) -> Any:
        """What a connection would do: the handler under the deadline, faults as arranged."""
        self.log.append(method.name)
        if self.failures.get(method.name):
            raise self.failures[method.name].pop(0)
        handler = {CA_ROOT: self.server.root, CA_ISSUE: self.server.issue, CA_STATUS: self.server.status}[method]
        with trio.move_on_after(timeout_s):
            reply = await handler(call_of(caller, timeout_s=timeout_s, method=method), request)  # type: ignore[operator]
            if method.name in self.lose_replies:
                self.lose_replies.discard(method.name)
                await trio.sleep_forever()
            return reply
        raise DeadlineExceeded(f"{method.name} took longer than {timeout_s} s")

    @asynccontextmanager
    async def connection(self, caller: Caller) -> AsyncIterator[FakeConnection]:
        """A connection as `caller`."""
        await trio.lowlevel.checkpoint()
        yield FakeConnection(self, caller)


class FakeConnection:
    """Keeps `CallConnection`."""

    def __init__(self, swarm: Swarm, caller: Caller) -> None:
        self._swarm = swarm
        self._caller = caller
        self.peer = Caller(address="m1", certificate=swarm.leaf)

    async def call(self, method: Method[Any, Any], request: Any, *, timeout_s: float = 5.0) -> Any:
        return await self._swarm.call(method, request, self._caller, timeout_s=timeout_s)
