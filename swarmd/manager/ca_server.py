"""The CA's three doors: root, issue, status (reference security 2.2, 3.1; SwarmKit `ca/server.go`).

`decide` says what a caller may get; the transaction that records the request also signs it, so that a stored
certificate always belongs to the stored request, and a node is issued or it is not there. Where an external CA signs,
the request is recorded and `loops.signer` has it signed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

import msgspec
import trio

from swarmd.errors import (
    Conflict,
    Invalid,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from swarmd.manager.bell import Bell
from swarmd.manager.certificates import tracked
from swarmd.manager.certifier import Certifier
from swarmd.manager.join_limits import JoinRate, TokenFailures, check_nodes
from swarmd.manager.peer_address import host_of
from swarmd.manager.proposer import Store
from swarmd.manager.standing import standing_of
from swarmd.manager.waiting_nodes import check_may_wait, described
from swarmd.model import (
    Availability,
    Cluster,
    IssuanceState,
    Membership,
    Node,
    NodeCertificate,
    NodeSpec,
    NodeStatus,
    Role,
)
from swarmd.pki import (
    authenticate_renewal,
    check_csr,
    fingerprint,
    have_same_key,
    parse_token,
    role_of_token,
    root_digest,
    signing_of,
)
from swarmd.state.command import Table
from swarmd.state.transaction import Transaction
from swarmd.state.watch import Route
from swarmd.transport.connection import Call
from swarmd.wire import ca
from swarmd.wire.identity import Identity

STATUS_WAIT_S_MAX: Final = 30.0
STATUS_MARGIN_S: Final = 0.25
"""An undecided request is answered this much before the caller's deadline, so that it learns that we are alive."""

_ASK_FOR: Final = "`swarmctl cluster join-token worker` on a manager shows the present one"

_CERTIFIED: Final = frozenset({IssuanceState.ISSUED, IssuanceState.ROTATE})
"""The record's certificate is for the record's request."""
_DECIDED: Final = _CERTIFIED | {IssuanceState.FAILED}


class Admit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A new node, in the role that its token gives."""

    role: Role


class Renew(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A certificate for this node, in the role that its record has. `presented` is the expired one it came with."""

    node_id: str
    presented: bytes = b""


class Wait(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A record, and no certificate until an operator accepts it."""


def decide(request: ca.IssueRequest, identity: Identity | None, cluster: Cluster) -> Admit | Renew | Wait:
    """What the caller gets, from who it is and what it brings. Knows nothing of nodes; see `CAServer.issue`.

    A verified certificate of this swarm wins, then an expired one with its signature, then a token; who brings nothing
    may wait. Raises `Invalid` (a malformed token), `PermissionDenied` (a wrong one), `Unauthenticated`.
    """
    if identity is not None and identity.swarm_id == cluster.id:
        return Renew(node_id=identity.node_id)
    if request.renewal_certificate:
        return _by_old_key(request, cluster)
    if request.token:
        return Admit(role=_role_of(request.token, cluster))
    if identity is not None:
        raise Unauthenticated(
            "the certificate is of another swarm", hint="leave that swarm first, then join with a token of this one"
        )
    return Wait()


def _by_old_key(request: ca.IssueRequest, cluster: Cluster) -> Renew:
    try:
        subject = authenticate_renewal(
            request.renewal_certificate, request.csr, request.renewal_signature, root=_roots_of(cluster)
        )
    except Invalid as error:
        raise PermissionDenied(f"the old certificate does not let this node in: {error.message}") from error
    if subject.swarm_id != cluster.id:
        raise PermissionDenied("the old certificate is of another swarm")
    return Renew(node_id=subject.node_id, presented=request.renewal_certificate)


def _role_of(token: str, cluster: Cluster) -> Role:
    parsed = parse_token(token)
    role = role_of_token(token, cluster.root_ca.join_tokens)
    if role is not None:
        return role
    # Which root a token was made for is no secret: every manager shows its root to whoever asks.
    if parsed.digest != root_digest(cluster.root_ca.certificate):
        raise PermissionDenied(
            "this join token is of another swarm, or the root certificate was replaced since it was made", hint=_ASK_FOR
        )
    raise PermissionDenied("this join token is wrong, or it was replaced by a new one", hint=_ASK_FOR)


class CAServer:
    """Handlers of CA_ROOT (any manager), CA_ISSUE and CA_STATUS (on the leader; a follower passes them on).

    Args:
        store: read for all three, written by `issue`.
        local_root: the trust root from this node's own credentials, for the time before the state has a cluster.
        join_rate: how many new nodes are let in.
    """

    def __init__(self, store: Store, *, local_root: Callable[[], bytes], join_rate: JoinRate | None = None) -> None:
        self._store = store
        self._local_root = local_root
        self._failures = TokenFailures()
        self._join_rate = JoinRate() if join_rate is None else join_rate
        self._certifier = Certifier()

    async def root(self, call: Call, request: ca.RootRequest) -> ca.RootReply:
        """The exact PEM bytes that join tokens digest."""
        cluster = self._store.state.cluster()
        stored = cluster.root_ca.certificate if cluster is not None else b""
        return ca.RootReply(certificate=stored or self._local_root())

    async def issue(self, call: Call, request: ca.IssueRequest) -> ca.IssueReply:
        """Record and sign a request; the certificate is fetched by `status`.

        Asking again with the same CSR gives the same node. Raises what `decide` raises, `PermissionDenied` for a
        removed node, `NotFound` for one that is not there, `ResourceExhausted` after 5 wrong tokens from one address
        in a minute, and for more new nodes than `join_rate` or the swarm takes. `Cancelled` leaves the outcome unknown.
        """
        check_csr(request.csr)
        self._count_wrong(call, request)
        charge = _once(lambda: self._join_rate.take(trio.current_time()))

        def record(tx: Transaction) -> str:
            cluster = _require(tx.cluster())
            # Decided again, on what the transaction relies on: the token may be rotated before this is applied.
            match decide(request, call.caller.identity, cluster):
                case Admit(role=role):
                    return self._admit(tx, cluster, request, role, charge)
                case Renew() as renew:
                    return self._renew(tx, cluster, request, renew)
                case Wait():
                    return self._let_wait(tx, cluster, request, host_of(call.caller.address))

        node_id, _ = await self._store.update(record, actor=call.caller.actor)
        node = self._store.state.node(node_id)
        is_made = node is not None and node.certificate.csr == request.csr and node.certificate.state in _CERTIFIED
        return ca.IssueReply(node_id=node_id, certificate=node.certificate.certificate if node and is_made else b"")

    def _count_wrong(self, call: Call, request: ca.IssueRequest) -> None:
        """Refuse a request that shows a wrong token or key, and remember where it came from."""
        host, now = host_of(call.caller.address), trio.current_time()
        if request.token or request.renewal_certificate:
            self._failures.check(host, now)
        try:
            decide(request, call.caller.identity, _require(self._store.state.cluster()))
        except PermissionDenied:
            self._failures.count(host, now)
            raise

    async def status(self, call: Call, request: ca.StatusRequest) -> ca.StatusReply:
        """The decision on the request with this CSR; waits for it up to the call's deadline, at most 30 s, and then
        says how it stands.

        Raises `NotFound` for an unknown node and `Conflict` if another request took this one's place.
        """
        bell = Bell()
        route = Route(Table.NODE, "id", request.node_id)
        subscription = self._store.state.subscribe([route], wake=bell.ring)
        wait_s = min(STATUS_WAIT_S_MAX, call.deadline - trio.current_time() - STATUS_MARGIN_S)
        try:
            with trio.move_on_after(max(0.0, wait_s)):
                while (reply := self._status_now(request)).state not in _DECIDED:
                    await bell.wait()
                    # Only where to look; what is there is read from the state.
                    if subscription.is_gone:
                        subscription.close()
                        subscription = self._store.state.subscribe([route], wake=bell.ring)
                    else:
                        subscription.take()
            return reply
        finally:
            subscription.close()

    def _status_now(self, request: ca.StatusRequest) -> ca.StatusReply:
        node = self._store.state.node(request.node_id)
        if node is None and self._store.state.removed_node(request.node_id) is not None:
            raise PermissionDenied("an operator turned this node away", hint="ask who runs the swarm")
        if node is None:
            raise NotFound(f"node {request.node_id} is not in this swarm (any more)")
        certificate = node.certificate
        if hashlib.sha256(certificate.csr).digest() != request.csr_sha256:
            raise Conflict(f"another certificate request of node {request.node_id} took the place of this one")
        return ca.StatusReply(
            state=certificate.state,
            role=certificate.role,
            certificate=certificate.certificate if certificate.state in _CERTIFIED else b"",
            error=certificate.error,
        )

    def _admit(
        self, tx: Transaction, cluster: Cluster, request: ca.IssueRequest, role: Role, charge: Callable[[], None]
    ) -> str:
        known = next(iter(tx.nodes_by_request(request.csr)), None)
        if known is not None:
            if known.role is role:
                return known.id
            raise Invalid("this certificate request was used before, for another role", field="$.csr")
        check_nodes(self._store.state.node_count)
        charge()
        node_id = tx.new_id()
        spec = NodeSpec(
            desired_role=role, membership=Membership.ACCEPTED, availability=Availability(request.availability)
        )
        certificate = self._certifier.certify(cluster, request.csr, node_id, role, tx.now)
        certificate = tracked(cluster, certificate, NodeCertificate(), tx.now)
        description = described(request.hostname)
        tx.create(Node(id=node_id, spec=spec, role=role, description=description, certificate=certificate))
        return node_id

    def _let_wait(self, tx: Transaction, cluster: Cluster, request: ca.IssueRequest, host: str) -> str:
        """A record that says who asks. The same request finds it again, also once it was accepted."""
        known = next(iter(tx.nodes_by_request(request.csr)), None)
        if known is not None:
            return known.id
        check_nodes(self._store.state.node_count)
        check_may_wait(cluster, tx.nodes())
        node = Node(
            id=tx.new_id(),
            spec=NodeSpec(membership=Membership.PENDING),
            description=described(request.hostname),
            status=NodeStatus(addr=host),
            certificate=NodeCertificate(csr=request.csr, state=IssuanceState.PENDING),
        )
        tx.create(node)
        return node.id

    def _renew(self, tx: Transaction, cluster: Cluster, request: ca.IssueRequest, renew: Renew) -> str:
        if tx.removed_node(renew.node_id) is not None:
            raise PermissionDenied(
                f"node {renew.node_id} was removed from this swarm",
                hint="join again with a token and an empty state directory",
            )
        node = tx.node(renew.node_id)
        if node is None:
            raise NotFound(f"node {renew.node_id} is not in this swarm", hint="join again with a token")
        _require_known_key(node, renew)
        if any(other.id != node.id for other in tx.nodes_by_request(request.csr)):
            raise Invalid("this certificate request is another node's", field="$.csr")
        if node.certificate.csr == request.csr and _stands(node):
            return node.id
        certificate = self._certifier.certify(cluster, request.csr, node.id, node.role, tx.now, before=node.certificate)
        certificate = tracked(cluster, certificate, node.certificate, tx.now)
        tx.update(msgspec.structs.replace(node, certificate=certificate))
        return node.id


def _once(act: Callable[[], None]) -> Callable[[], None]:
    """`act`, whose later calls do nothing: a transaction may run again."""
    is_done = False

    def do() -> None:
        nonlocal is_done
        if not is_done:
            act()
            is_done = True

    return do


def _require(cluster: Cluster | None) -> Cluster:
    if cluster is None or not cluster.root_ca.certificate:
        raise Unavailable("this swarm has no certificate authority yet", hint="try again in a moment")
    return cluster


def _roots_of(cluster: Cluster) -> bytes:
    """What a node's certificate may be of: while the root is rotated either the present one or the next."""
    return cluster.root_ca.certificate + signing_of(cluster.root_ca).certificate


def _require_known_key(node: Node, renew: Renew) -> None:
    """An expired certificate counts only while its key is the one we certified last: an old one may have leaked."""
    last = node.certificate.certificate
    if renew.presented and fingerprint(renew.presented) in standing_of(node).revoked:
        raise PermissionDenied(f"this certificate of node {node.id} was revoked: it has a newer one")
    if renew.presented and last and not have_same_key(renew.presented, last):
        raise PermissionDenied(
            f"node {node.id} has a newer key than the one that signed this renewal", hint="join again with a token"
        )


def _stands(node: Node) -> bool:
    """Whether the node's certificate already says what a new one would say, or somebody is about to sign one."""
    if node.certificate.state is IssuanceState.RENEW:
        return True  # it will say what the node's role is then
    return node.certificate.state is IssuanceState.ISSUED and node.certificate.role is node.role
