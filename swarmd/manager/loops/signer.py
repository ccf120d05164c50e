"""Has recorded certificate requests signed: by the swarm's own key, or by an external CA, which takes its time.

The doors sign at once where the swarm has the key; what waits here was recorded while an external CA was to sign. What
failed in passing is tried again every ten seconds; a signer's refusal is the request's end (reference security 3.1).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import trio
from msgspec.structs import replace

from swarmd.errors import FailedPrecondition, Invalid, Unavailable
from swarmd.manager.certificates import tracked
from swarmd.manager.certifier import Certifier, certified
from swarmd.manager.loops.keyed import KeyedLoop
from swarmd.manager.proposer import Store
from swarmd.model import Cluster, ExternalCA, IssuanceState, Membership, Node, NodeCertificate, Role, RootCA
from swarmd.pki import signing_of
from swarmd.state.command import Table
from swarmd.state.transaction import Transaction
from swarmd.state.watch import Event, Route

log = logging.getLogger(__name__)

ACTOR: Final = "leader:signer"
RETRY_S: Final = 10.0


class Signers(Protocol):
    """See `manager.external_ca.ExternalSigners`."""

    async def sign(
        self, root: RootCA, signers: tuple[ExternalCA, ...], *, csr: bytes, node_id: str, role: Role, swarm_id: str
    ) -> bytes:
        """Raises `Unavailable` (later, perhaps), `FailedPrecondition` (never)."""
        ...


class SignerLoop:
    """One instance per reign."""

    name: str = "certificate of node"
    routes: tuple[Route, ...] = (Route(Table.NODE), Route(Table.CLUSTER))

    def __init__(self, store: Store, signers: Signers, *, now: Callable[[], float], rng: random.Random) -> None:
        self._store = store
        self._signers = signers
        self._now = now
        self._loop = KeyedLoop(store, self, now=now, rng=rng)
        self._certifier = Certifier()
        self._told: dict[str, str] = {}
        """Node id -> why its request waits, so that it is logged once."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Sign until cancelled. Raises `Unavailable` (in a group) once this manager does not lead."""
        await self._loop.run(task_status=task_status)

    def all_keys(self) -> Iterable[str]:
        """Every node whose request waits."""
        return [node.id for node in self._store.state.nodes() if waits_for_signature(node)]

    def keys_of(self, event: Event) -> Iterable[str]:
        """A node whose request waits; all of them when the cluster's CA settings may have changed."""
        match event.new:
            case Node() as node:
                return (node.id,) if waits_for_signature(node) else ()
            case Cluster():
                return self.all_keys()
            case _:
                return ()

    async def look(self, key: str) -> float | None:
        """Have one request signed and store the answer; when to try again if that could not be done now."""
        node, cluster = self._store.state.node(key), self._store.state.cluster()
        if node is None or cluster is None or not waits_for_signature(node):
            self._told.pop(key, None)
            return None
        issued, refusal = None, ""
        try:
            made = b"" if signing_of(cluster.root_ca).key else await self._signed_elsewhere(cluster, node)
            issued = self._record(cluster, node, made)
        except (Unavailable, Invalid) as problem:
            # An answer that is not what was asked for counts as none: the signer may be set right.
            if self._told.get(key) != problem.message:
                log.warning("node %s waits for its certificate: %s", key, problem)
                self._told[key] = problem.message
            return self._now() + RETRY_S
        except FailedPrecondition as error:
            log.warning("node %s gets no certificate: %s", key, error)
            refusal = error.message
        self._told.pop(key, None)
        is_stored, _ = await self._store.update(
            lambda tx: store_answer(tx, cluster, node, issued, refusal), actor=ACTOR, fenced=True
        )
        return None if is_stored else self._now()

    async def _signed_elsewhere(self, cluster: Cluster, node: Node) -> bytes:
        return await self._signers.sign(
            cluster.root_ca,
            cluster.spec.ca.external_cas,
            csr=node.certificate.csr,
            node_id=node.id,
            role=node.role,
            swarm_id=cluster.id,
        )

    def _record(self, cluster: Cluster, node: Node, made: bytes) -> NodeCertificate:
        """The record of `made`, or of what the swarm's own key makes."""
        csr, now = node.certificate.csr, self._now()
        if made:
            return certified(cluster, made, csr=csr, node_id=node.id, role=node.role, now=now)
        return self._certifier.certify(cluster, csr, node.id, node.role, now, before=node.certificate)


def waits_for_signature(node: Node) -> bool:
    """Whether the node's request is one to sign now: a new node's once it was let in, a renewal on sight."""
    if node.certificate.state is IssuanceState.PENDING:
        return node.spec.membership is Membership.ACCEPTED and bool(node.certificate.csr)
    return node.certificate.state is IssuanceState.RENEW


def store_answer(
    tx: Transaction, cluster: Cluster, node: Node, issued: NodeCertificate | None, refusal: str = ""
) -> bool:
    """Store `issued`, or why there is none, made for what `node` and `cluster` were; False if anything that it depends
    on is otherwise now: the request, the role, or the root that signs."""
    current, cluster_now = tx.node(node.id), tx.cluster()
    if current is None or cluster_now is None or not waits_for_signature(current):
        return True  # nothing is left to do
    if current.certificate.csr != node.certificate.csr or current.role is not node.role:
        return False
    if signing_of(cluster_now.root_ca) != signing_of(cluster.root_ca):
        return False
    if issued is None:
        certificate = replace(current.certificate, state=IssuanceState.FAILED, error=refusal)
    else:
        certificate = tracked(cluster_now, issued, current.certificate, tx.now)
    tx.update(replace(current, certificate=certificate))
    return True
