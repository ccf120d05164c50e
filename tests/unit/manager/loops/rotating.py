"""A swarm whose root is being replaced, its nodes played by the test: they renew, and are seen, when it says so."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from msgspec.structs import replace

from swarmd.manager.loops import RootRotationLoop
from swarmd.model import Cluster, IssuanceState, Membership, NodeState, Role, RootCA
from swarmd.pki import NewRoot, begin_rotation, cross_sign, fingerprint, new_key_and_csr, own_root
from swarmd.state.command import Table
from swarmd.state.features import KINDS, SECURITY
from swarmd.state.transaction import Transaction
from swarmd.wire import ca
from swarmd.wire.identity import Caller
from tests.unit.manager.local_store import EPOCH
from tests.unit.manager.swarm_fixture import Swarm, call_of, identity


class Rotating(Swarm):
    """`count` nodes, n000 a manager, each READY with a certificate of the present root."""

    def __init__(self, count: int = 3) -> None:
        super().__init__()
        self.change(lambda cluster: replace(cluster, feature_level=("base.1", "join.1", KINDS, SECURITY)))
        self.ids = [f"n{number:03}".ljust(25, "x") for number in range(count)]
        for number, id in enumerate(self.ids):
            self.add_node(id, Role.WORKER if number else Role.MANAGER)

    @property
    def cluster(self) -> Cluster:
        cluster = self.store.state.cluster()
        assert cluster is not None
        return cluster

    @property
    def root_ca(self) -> RootCA:
        return self.cluster.root_ca

    def change(self, how: object) -> None:
        def fn(tx: Transaction) -> None:
            cluster = tx.cluster()
            assert cluster is not None
            tx.update(how(cluster))  # type: ignore[operator]

        self.store.write(fn)

    def change_node(self, id: str, how: object) -> None:
        def fn(tx: Transaction) -> None:
            node = tx.node(id)
            assert node is not None
            tx.update(how(node))  # type: ignore[operator]

        self.store.write(fn)

    def begin(self, new: NewRoot | None = None) -> NewRoot:
        """Begin a rotation, in place of any other."""
        made = own_root(EPOCH) if new is None else new

        def begun(cluster: Cluster) -> Cluster:
            root = cluster.root_ca
            crossed = cross_sign(root, made)
            forced = root.last_forced_rotation + 1
            rotating = begin_rotation(root, made, cross_signed=crossed, force_rotate=forced, now=EPOCH)
            return replace(cluster, root_ca=rotating)

        self.change(begun)
        return made

    def set_state(self, id: str, state: NodeState) -> None:
        self.change_node(id, lambda node: replace(node, status=replace(node.status, state=state)))

    def let_wait(self, id: str) -> None:
        """A node that nobody has let in yet."""
        node = self.add_node(id)
        self.change_node(
            id,
            lambda _: replace(
                node,
                spec=replace(node.spec, membership=Membership.PENDING),
                certificate=replace(node.certificate, state=IssuanceState.PENDING),
            ),
        )

    async def renew(self, id: str) -> None:
        """As the node does when it is told to."""
        _, csr = new_key_and_csr()
        await self.server.issue(call_of(Caller(identity=identity(id))), ca.IssueRequest(csr=csr))

    def see(self, id: str) -> None:
        """As the leader does at a registration: which root signed the certificate that the node shows."""
        rotation = self.root_ca.rotation
        issuer = fingerprint(rotation.certificate) if rotation is not None else ""
        self.change_node(
            id, lambda node: replace(node, status=replace(node.status, state=NodeState.READY, issuer=issuer))
        )

    def remove(self, id: str) -> None:
        self.store.write(lambda tx: tx.remove(Table.NODE, id))

    def in_state(self, state: IssuanceState) -> list[str]:
        return sorted(node.id for node in self.store.state.nodes() if node.certificate.state is state)

    async def follow(self, *, but: tuple[str, ...] = ()) -> None:
        """Every node that was told renews and is seen, but these."""
        for id in self.in_state(IssuanceState.ROTATE):
            if id not in but:
                await self.renew(id)
                self.see(id)

    async def followed(self, *, but: tuple[str, ...] = (), seconds: int = 60) -> None:
        """So much time passes, and nodes do what they are told."""
        for _ in range(seconds):
            await self.follow(but=but)
            await trio.sleep(1)

    @asynccontextmanager
    async def led(self, leaders: int = 1) -> AsyncIterator[None]:
        """So many managers believe that they lead."""
        async with trio.open_nursery() as nursery:
            for seed in range(leaders):
                loop = RootRotationLoop(self.store, now=self.store.now, rng=random.Random(seed))
                await nursery.start(loop.run)
            await trio.sleep(0.01)
            yield
            nursery.cancel_scope.cancel()
