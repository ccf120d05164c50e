"""Who may call what: the one decision behind every door (reference security 6.1, 6.3, 10 #1).

Pure: the removed nodes come in as a predicate, the caller as `transport` saw it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swarmd.errors import PermissionDenied, Unauthenticated
from swarmd.model import Role
from swarmd.wire.frames import Headers
from swarmd.wire.identity import Caller, ForwardedCaller, Identity
from swarmd.wire.methods import Method, Serves


def authorise(
    method: Method[Any, Any],
    caller: Caller,
    *,
    swarm_id: str,
    is_removed: Callable[[str], bool],
) -> None:
    """Return if `caller` may make this call.

    A forwarded caller is judged twice: the manager that passes the call on, and the origin as if it had come itself.

    Raises `Unauthenticated` for a caller without a certificate where one is needed, `PermissionDenied` for any other
    refusal.
    """
    if caller.forwarder is not None:
        _check_forwarder(method, caller.forwarder, swarm_id=swarm_id, is_removed=is_removed)
    if caller.identity is None:
        if not method.anonymous:
            raise Unauthenticated(f"{method.name} needs a node certificate")
    elif caller.is_local:
        _check_local(method, caller, caller.identity)
    else:
        _check_node(method, caller.identity, swarm_id=swarm_id, is_removed=is_removed)


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
    )


def _forwarded_identity(forwarded: ForwardedCaller) -> Identity | None:
    named = (forwarded.node_id != "", forwarded.swarm_id != "")
    if not any(named) and not forwarded.is_local:
        return None
    if not all(named):
        raise PermissionDenied("the forwarded caller is incomplete")
    return Identity(node_id=forwarded.node_id, role=forwarded.role, swarm_id=forwarded.swarm_id)


def _check_node(
    method: Method[Any, Any], identity: Identity, *, swarm_id: str, is_removed: Callable[[str], bool]
) -> None:
    if identity.swarm_id != swarm_id:
        raise PermissionDenied(f"node {identity.node_id} belongs to another swarm")
    if is_removed(identity.node_id):
        raise PermissionDenied(f"node {identity.node_id} was removed from the swarm")
    if identity.role not in method.roles:
        raise PermissionDenied(f"{method.name} is not for a {identity.role.name.lower()}")


def _check_local(method: Method[Any, Any], caller: Caller, identity: Identity) -> None:
    """Whoever can open the control socket administers this node, so no role is asked; which verbs there are is."""
    if not method.socket:
        raise PermissionDenied(f"{method.name} is not served on the control socket")
    if caller.forwarder is not None and caller.forwarder.node_id != identity.node_id:
        raise PermissionDenied("a manager passes on its own control socket's calls only")


def _check_forwarder(
    method: Method[Any, Any], forwarder: Identity, *, swarm_id: str, is_removed: Callable[[str], bool]
) -> None:
    if method.serves is not Serves.LEADER_PROXY:
        raise PermissionDenied(f"{method.name} is not passed on")
    if forwarder.role is not Role.MANAGER:
        raise PermissionDenied("only a manager may pass on a call for somebody else")
    if forwarder.swarm_id != swarm_id:
        raise PermissionDenied(f"manager {forwarder.node_id} belongs to another swarm")
    if is_removed(forwarder.node_id):
        raise PermissionDenied(f"manager {forwarder.node_id} was removed from the swarm")
