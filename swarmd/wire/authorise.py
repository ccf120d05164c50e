"""Who may call what: the one decision behind every door (reference security 6.1, 6.3, 10 #1 to #3).

Pure: what the replicated state says of nodes comes in as `Standings`, the caller as `transport` saw it. A certificate
says who somebody is; what he may do is what the certificate AND the state say.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec

from swarmd.errors import PermissionDenied, Unauthenticated
from swarmd.model import Role
from swarmd.wire.frames import Headers
from swarmd.wire.identity import Caller, ForwardedCaller, Identity
from swarmd.wire.methods import RAFT_MESSAGES, RAFT_SNAPSHOT, Method, Serves


class Standing(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What this manager's state says of one node."""

    role: Role = Role.WORKER
    is_removed: bool = False
    fingerprints: frozenset[str] = frozenset()
    """Of the certificates it was issued and that have not expired. Empty: they are not kept (yet)."""
    revoked: frozenset[str] = frozenset()
    """Those of them that count no more."""


_RAFT: Final = (RAFT_MESSAGES, RAFT_SNAPSHOT)

REMOVED: Final = Standing(is_removed=True)


class Standings(Protocol):
    """What a manager knows of nodes at this moment."""

    @property
    def swarm_id(self) -> str:
        """The swarm that this manager belongs to."""
        ...

    @property
    def is_authoritative(self) -> bool:
        """Whether this manager leads, so that who is not in its state is not in the swarm."""
        ...

    @property
    def has_leader(self) -> bool:
        """Whether this manager leads or hears who does."""
        ...

    def of(self, node_id: str) -> Standing | None:
        """None: the state knows no such node (or there is no state yet)."""
        ...


class CertificatesOnly:
    """`Standings` of who has no state: every certificate of the swarm counts for what it says."""

    is_authoritative: Final = False
    has_leader: Final = False

    def __init__(self, swarm_id: str) -> None:
        self.swarm_id: Final = swarm_id

    def of(self, node_id: str) -> Standing | None:
        """Nothing is known."""
        return None


def authorise(method: Method[Any, Any], caller: Caller, standings: Standings) -> None:
    """Return if `caller` may make this call.

    A forwarded caller is judged twice: the manager that passes the call on, and the origin as if it had come itself.

    Raises `Unauthenticated` for a caller without a certificate where one is needed, `PermissionDenied` for any other
    refusal.
    """
    if caller.forwarder is not None:
        _check_forwarder(method, caller.forwarder, standings)
    identity = caller.identity
    if identity is None:
        if not method.anonymous:
            raise Unauthenticated(f"{method.name} needs a node certificate")
    elif caller.is_local:
        _check_local(method, caller, identity)
    else:
        if caller.forwarder is not None and not identity.fingerprint:
            _check_may_be_nameless(identity, standings)
        role = present_role(identity, standings)
        if role not in method.roles and not _may_bring_the_state(method, identity, standings):
            raise PermissionDenied(f"{method.name} is not for a {role.name.lower()}")


def present_role(identity: Identity, standings: Standings) -> Role:
    """What whoever shows this certificate counts as now: a manager only if certificate and state both say so.

    A follower may lag behind, and a new manager has no state yet. So a node that the state does not know, and a
    certificate newer than what the state knows of its node, are taken at their word there: refusing them would shut
    out the very leader that the state has to come from. Where this manager leads its state is the swarm's, and both
    are refused or count as the state says. Removal and revocation are never undone, so they hold on every manager.

    Raises `PermissionDenied` for another swarm's node, a removed or unknown one, and a revoked certificate.
    """
    if identity.swarm_id != standings.swarm_id:
        raise PermissionDenied(f"node {identity.node_id} belongs to another swarm")
    standing = standings.of(identity.node_id)
    if standing is None:
        if standings.is_authoritative:
            raise PermissionDenied(
                f"node {identity.node_id} is not in this swarm",
                hint="join again with a token and an empty state directory",
            )
        return identity.role
    if standing.is_removed:
        raise PermissionDenied(f"node {identity.node_id} was removed from the swarm")
    if identity.fingerprint in standing.revoked:
        raise PermissionDenied(f"this certificate of node {identity.node_id} was revoked: it has a newer one")
    if standing.role is Role.MANAGER or _is_newer(identity, standing, standings):
        return identity.role
    return Role.WORKER


def _may_bring_the_state(method: Method[Any, Any], identity: Identity, standings: Standings) -> bool:
    """Whether this could be a leader that this manager has still to hear of, promoted after what its state knows. Raft
    itself judges by its members whose messages count."""
    return method in _RAFT and not standings.has_leader and identity.role in method.roles


def _is_newer(identity: Identity, standing: Standing, standings: Standings) -> bool:
    """Whether the certificate was issued after what this manager's state knows."""
    if standings.is_authoritative or not standing.fingerprints or not identity.fingerprint:
        return False
    return identity.fingerprint not in standing.fingerprints


def origin(peer: Caller, headers: Headers) -> Caller:
    """The caller of a call that came over `peer`'s connection: `peer`, or whom the `forwarded` header names.

    The header is believed from a manager's certificate only; whether that manager is one of ours and may forward this
    call is `authorise`'s to say. Raises `PermissionDenied` for a header from anybody else.
    """
    forwarded = headers.forwarded
    if forwarded is None:
        return peer
    if peer.identity is None or peer.is_local or peer.identity.role is not Role.MANAGER:
        raise PermissionDenied("only a manager may pass on a call for somebody else")
    return Caller(
        identity=_forwarded_identity(forwarded),
        is_local=forwarded.is_local,
        address=forwarded.address,
        forwarder=peer.identity,
        uid=None if forwarded.uid is msgspec.UNSET else forwarded.uid,
    )


def forwarded_header(caller: Caller) -> ForwardedCaller:
    """What a follower writes into the `forwarded` header when it passes on a call of `caller`."""
    if caller.identity is None:
        return ForwardedCaller(address=caller.address)
    return ForwardedCaller(
        node_id=caller.identity.node_id,
        role=caller.identity.role,
        swarm_id=caller.identity.swarm_id,
        is_local=caller.is_local,
        address=caller.address,
        fingerprint=caller.identity.fingerprint or msgspec.UNSET,
        uid=msgspec.UNSET if caller.uid is None else caller.uid,
    )


def _forwarded_identity(forwarded: ForwardedCaller) -> Identity | None:
    named = (forwarded.node_id != "", forwarded.swarm_id != "")
    if not any(named) and not forwarded.is_local:
        return None
    if not all(named):
        raise PermissionDenied("the forwarded caller is incomplete")
    return Identity(
        node_id=forwarded.node_id,
        role=forwarded.role,
        swarm_id=forwarded.swarm_id,
        fingerprint="" if forwarded.fingerprint is msgspec.UNSET else forwarded.fingerprint,
    )


def _check_may_be_nameless(identity: Identity, standings: Standings) -> None:
    """Every manager says which certificate it saw, once certificates are kept: without it none could be revoked."""
    standing = standings.of(identity.node_id)
    if standing is not None and standing.fingerprints:
        raise PermissionDenied("the forwarded caller is incomplete: it does not say which certificate was shown")


def _check_local(method: Method[Any, Any], caller: Caller, identity: Identity) -> None:
    """Whoever can open the control socket administers this node, so no role is asked; which verbs there are is."""
    if not method.socket:
        raise PermissionDenied(f"{method.name} is not served on the control socket")
    if caller.forwarder is not None and caller.forwarder.node_id != identity.node_id:
        raise PermissionDenied("a manager passes on its own control socket's calls only")


def _check_forwarder(method: Method[Any, Any], forwarder: Identity, standings: Standings) -> None:
    if method.serves is not Serves.LEADER_PROXY:
        raise PermissionDenied(f"{method.name} is not passed on")
    if present_role(forwarder, standings) is not Role.MANAGER:
        raise PermissionDenied("only a manager may pass on a call for somebody else")
