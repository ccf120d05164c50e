"""The whole matrix: every method, every kind of caller."""

from __future__ import annotations

from typing import Any

import pytest

from swarmd.errors import PermissionDenied, Unauthenticated
from swarmd.model import Role
from swarmd.wire.authorise import REMOVED, CertificatesOnly, Standing, authorise, forwarded_header, origin
from swarmd.wire.frames import Headers
from swarmd.wire.identity import Caller, ForwardedCaller, Identity
from swarmd.wire.methods import CA_ROOT, HEALTH, METHODS, NODE_UPDATE, RAFT_JOIN, STATUS, Method, Serves, Shape

SWARM = "this-swarm"


class Removals(CertificatesOnly):
    """Knows who was removed, and nothing else."""

    def of(self, node_id: str) -> Standing | None:
        return REMOVED if node_id in ("removed-worker", "removed-manager") else None


STANDINGS = Removals(SWARM)


def _identity(node_id: str, role: Role, swarm_id: str = SWARM) -> Identity:
    return Identity(node_id=node_id, role=role, swarm_id=swarm_id)


MANAGER = _identity("m1", Role.MANAGER)
OTHER_MANAGER = _identity("m2", Role.MANAGER)
WORKER = _identity("w1", Role.WORKER)
STRANGER = _identity("m1", Role.MANAGER, "other-swarm")

ALL_METHODS = pytest.mark.parametrize("method", METHODS.values(), ids=str)


def _allows(method: Method[Any, Any], caller: Caller) -> bool:
    try:
        authorise(method, caller, STANDINGS)
    except (PermissionDenied, Unauthenticated):
        return False
    return True


def test_exactly_three_methods_are_anonymous() -> None:
    assert {name for name, method in METHODS.items() if method.anonymous} == {"ca.root", "ca.issue", "ca.status"}


def test_every_method_says_who_may_call_it() -> None:
    for method in METHODS.values():
        assert method.roles
        assert method.roles <= set(Role)


def test_workers_may_call_exactly_these() -> None:
    allowed = {name for name, method in METHODS.items() if _allows(method, Caller(identity=WORKER))}
    assert allowed == {
        "ca.root",
        "ca.issue",
        "ca.status",
        "health",
        "dispatcher.session",
        "dispatcher.heartbeat",
        "dispatcher.assignments",
        "dispatcher.update_status",
        "dispatcher.goodbye",
    }


@ALL_METHODS
def test_without_a_certificate_only_the_anonymous_methods(method: Method[Any, Any]) -> None:
    assert _allows(method, Caller(address="192.0.2.1:1")) == method.anonymous
    if not method.anonymous:
        with pytest.raises(Unauthenticated):
            authorise(method, Caller(), STANDINGS)


@ALL_METHODS
@pytest.mark.parametrize("role", Role)
def test_a_node_may_call_what_its_role_may(method: Method[Any, Any], role: Role) -> None:
    assert _allows(method, Caller(identity=_identity("n1", role))) == (role in method.roles)


@ALL_METHODS
@pytest.mark.parametrize(
    "identity",
    [
        STRANGER,
        _identity("w1", Role.WORKER, "other-swarm"),
        _identity("w1", Role.WORKER, ""),
        _identity("removed-worker", Role.WORKER),
        _identity("removed-manager", Role.MANAGER),
    ],
)
def test_strangers_and_removed_nodes_may_call_nothing(method: Method[Any, Any], identity: Identity) -> None:
    assert not _allows(method, Caller(identity=identity))


@ALL_METHODS
@pytest.mark.parametrize("role", Role)
def test_the_control_socket_serves_its_methods_only(method: Method[Any, Any], role: Role) -> None:
    assert _allows(method, Caller(identity=_identity("n1", role), is_local=True, uid=0)) == method.socket


@ALL_METHODS
def test_a_manager_passes_on_what_the_origin_may_call(method: Method[Any, Any]) -> None:
    passed_on = method.serves is Serves.LEADER_PROXY
    for origin_identity in (WORKER, OTHER_MANAGER):
        caller = Caller(identity=origin_identity, forwarder=MANAGER)
        assert _allows(method, caller) == (passed_on and origin_identity.role in method.roles)
    assert _allows(method, Caller(forwarder=MANAGER)) == (passed_on and method.anonymous)
    local = Caller(identity=MANAGER, is_local=True, forwarder=MANAGER)
    assert _allows(method, local) == (passed_on and method.socket)


@ALL_METHODS
@pytest.mark.parametrize(
    "caller",
    [
        Caller(identity=WORKER, forwarder=WORKER),
        Caller(identity=OTHER_MANAGER, forwarder=STRANGER),
        Caller(identity=OTHER_MANAGER, forwarder=_identity("removed-manager", Role.MANAGER)),
        Caller(identity=STRANGER, forwarder=MANAGER),
        Caller(identity=_identity("removed-manager", Role.MANAGER), forwarder=MANAGER),
        Caller(identity=_identity("removed-worker", Role.WORKER), forwarder=MANAGER),
        Caller(identity=OTHER_MANAGER, is_local=True, forwarder=MANAGER),
        Caller(forwarder=WORKER),
        Caller(forwarder=_identity("removed-manager", Role.MANAGER)),
    ],
)
def test_forged_or_removed_forwarders_and_origins_are_refused(method: Method[Any, Any], caller: Caller) -> None:
    assert not _allows(method, caller)


def test_a_removed_node_is_told_so() -> None:
    with pytest.raises(PermissionDenied, match="removed"):
        authorise(
            HEALTH,
            Caller(identity=_identity("removed-worker", Role.WORKER)),
            STANDINGS,
        )


@pytest.mark.parametrize(
    "peer",
    [Caller(), Caller(identity=WORKER), Caller(identity=MANAGER, is_local=True)],
    ids=["anonymous", "worker", "control socket"],
)
def test_the_forwarded_header_is_believed_from_a_managers_certificate_only(peer: Caller) -> None:
    header = Headers(forwarded=ForwardedCaller(node_id="m9", role=Role.MANAGER, swarm_id=SWARM))
    with pytest.raises(PermissionDenied):
        origin(peer, header)
    assert origin(peer, Headers()) is peer


@pytest.mark.parametrize(
    "caller",
    [
        Caller(address="192.0.2.1:1"),
        Caller(identity=WORKER, address="192.0.2.1:1"),
        Caller(identity=MANAGER, is_local=True, address="local user 0"),
    ],
)
def test_a_forwarded_caller_arrives_as_the_follower_saw_it(caller: Caller) -> None:
    arrived = origin(Caller(identity=MANAGER), Headers(forwarded=forwarded_header(caller)))
    assert (arrived.identity, arrived.is_local, arrived.address) == (caller.identity, caller.is_local, caller.address)
    assert arrived.forwarder == MANAGER
    assert arrived.actor == caller.actor


@pytest.mark.parametrize(
    "forwarded",
    [
        ForwardedCaller(node_id="w1"),
        ForwardedCaller(swarm_id=SWARM),
        ForwardedCaller(is_local=True),
        ForwardedCaller(is_local=True, node_id="m1"),
    ],
)
def test_an_incomplete_forwarded_caller_is_refused(forwarded: ForwardedCaller) -> None:
    with pytest.raises(PermissionDenied, match="incomplete"):
        origin(Caller(identity=MANAGER), Headers(forwarded=forwarded))


def test_the_table_is_consistent() -> None:
    assert all(name == method.name for name, method in METHODS.items())
    assert not any(method.anonymous and method.socket for method in METHODS.values())
    for method in METHODS.values():
        if method.mutates:
            assert method.serves is Serves.LEADER_PROXY
            assert method.shape is Shape.UNARY
        if method.serves is Serves.LEADER_PROXY:
            assert method.shape is Shape.UNARY, "only unary calls are passed on"
    assert {CA_ROOT.name, NODE_UPDATE.name, RAFT_JOIN.name, STATUS.name} <= set(METHODS)
