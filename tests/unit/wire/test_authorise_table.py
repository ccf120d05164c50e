"""Method by caller: who is let in where, as one table that shows in a review when it changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytest
from msgspec.structs import replace

from swarmd.errors import PermissionDenied, Unauthenticated
from swarmd.model import Role
from swarmd.wire.authorise import REMOVED, Standing, authorise, forwarded_header, origin, present_role
from swarmd.wire.frames import Headers
from swarmd.wire.identity import Caller, ForwardedCaller, Identity
from swarmd.wire.methods import HEALTH, METHODS, NODE_UPDATE, RAFT_JOIN, RAFT_MESSAGES, WATCH, Method, Serves

SWARM: Final = "this-swarm"


class Known:
    """`Standings` from a table."""

    def __init__(
        self, nodes: Mapping[str, Standing], *, is_authoritative: bool = True, has_leader: bool = True
    ) -> None:
        self.swarm_id = SWARM
        self.is_authoritative = is_authoritative
        self.has_leader = has_leader
        self._nodes = nodes

    def of(self, node_id: str) -> Standing | None:
        return self._nodes.get(node_id)


def _cert(node_id: str, role: Role, fingerprint: str, swarm_id: str = SWARM) -> Identity:
    return Identity(node_id=node_id, role=role, swarm_id=swarm_id, fingerprint=fingerprint)


def _standing(role: Role, *fingerprints: str, revoked: tuple[str, ...] = ()) -> Standing:
    return Standing(role=role, fingerprints=frozenset((*fingerprints, *revoked)), revoked=frozenset(revoked))


NODES: Final = {
    "m1": _standing(Role.MANAGER, "m1-b", revoked=("m1-a",)),
    "m2": _standing(Role.MANAGER, "m2-a"),
    "w1": _standing(Role.WORKER, "w1-b", revoked=("w1-a",)),
    "demoted": _standing(Role.WORKER, "demoted-worker", "demoted-manager"),
    "promoted": _standing(Role.MANAGER, "promoted-worker"),
    "removed-worker": REMOVED,
    "removed-manager": REMOVED,
}
LEADER: Final = Known(NODES)
FOLLOWER: Final = Known(NODES, is_authoritative=False)
BEHIND: Final = Known(NODES, is_authoritative=False, has_leader=False)

MANAGER: Final = _cert("m1", Role.MANAGER, "m1-b")
OTHER_MANAGER: Final = _cert("m2", Role.MANAGER, "m2-a")
WORKER: Final = _cert("w1", Role.WORKER, "w1-b")
DEMOTED: Final = _cert("demoted", Role.MANAGER, "demoted-manager")
UNKNOWN: Final = _cert("unknown", Role.MANAGER, "unknown-a")

IDENTITIES: Final[dict[str, Identity]] = {
    "manager": MANAGER,
    "worker": WORKER,
    "demoted": DEMOTED,
    "promoted": _cert("promoted", Role.WORKER, "promoted-worker"),
    "removed worker": _cert("removed-worker", Role.WORKER, "rw"),
    "removed manager": _cert("removed-manager", Role.MANAGER, "rm"),
    "revoked manager": _cert("m1", Role.MANAGER, "m1-a"),
    "revoked worker": _cert("w1", Role.WORKER, "w1-a"),
    "other swarm's": _cert("m1", Role.MANAGER, "m1-b", "other-swarm"),
    "unknown": UNKNOWN,
}

LETTERS: Final[dict[str, Caller]] = {
    "M": Caller(identity=MANAGER),
    "W": Caller(identity=WORKER),
    "d": Caller(identity=DEMOTED),
    "p": Caller(identity=IDENTITIES["promoted"]),
    "A": Caller(address="192.0.2.1:1"),
    "S": Caller(identity=MANAGER, is_local=True, uid=0),
    "m": Caller(identity=OTHER_MANAGER, forwarder=MANAGER),
    "w": Caller(identity=WORKER, forwarder=MANAGER),
    "f": Caller(identity=DEMOTED, forwarder=MANAGER),
    "a": Caller(forwarder=MANAGER),
    "s": Caller(identity=MANAGER, is_local=True, uid=0, forwarder=MANAGER),
}
"""M a manager, W a worker, d a demoted manager with its old certificate, p a promoted worker with its old one, A no
certificate, S the control socket; forwarded by a manager: m another manager, w a worker, f a demoted one, a no
certificate, s its own control socket."""

NOBODY: Final[tuple[Caller, ...]] = (
    *(Caller(identity=IDENTITIES[name]) for name in list(IDENTITIES)[4:]),
    *(Caller(identity=IDENTITIES[name], forwarder=MANAGER) for name in list(IDENTITIES)[4:]),
    *(Caller(identity=WORKER, forwarder=IDENTITIES[name]) for name in list(IDENTITIES)[1:]),
    *(Caller(forwarder=IDENTITIES[name]) for name in list(IDENTITIES)[1:]),
    Caller(identity=OTHER_MANAGER, is_local=True, forwarder=MANAGER),
    Caller(identity=replace(OTHER_MANAGER, fingerprint=""), forwarder=MANAGER),
)
"""Callers who may call nothing, of whatever method."""

CONTROL: Final = "MS"
PROXIED: Final = "MSms"
TABLE: Final[dict[str, str]] = {
    "ca.root": "MWdpA",
    "ca.issue": "MWdpAmwfa",
    "ca.status": "MWdpAmwfa",
    "ca.unlock_key": PROXIED,
    "raft.messages": "M",
    "raft.snapshot": "M",
    "raft.join": "Mm",
    "raft.leave": "Mm",
    "raft.digest": "M",
    "raft.disk": "M",
    "health": "MWdpS",
    "dispatcher.session": "MWdp",
    "dispatcher.heartbeat": "MWdp",
    "dispatcher.assignments": "MWdp",
    "dispatcher.update_status": "MWdp",
    "dispatcher.goodbye": "MWdp",
    "node.list": CONTROL,
    "node.get": CONTROL,
    "node.update": PROXIED,
    "node.accept": PROXIED,
    "node.reject": PROXIED,
    "node.remove": PROXIED,
    "node.renew": PROXIED,
    "service.list": CONTROL,
    "service.get": CONTROL,
    "service.create": PROXIED,
    "service.update": PROXIED,
    "service.remove": PROXIED,
    "service.rollback": PROXIED,
    "service.rebalance": PROXIED,
    "service.rebalance_plan": CONTROL,
    "service.why": CONTROL,
    "task.why": CONTROL,
    "task.list": CONTROL,
    "task.get": CONTROL,
    "secret.list": CONTROL,
    "secret.get": CONTROL,
    "secret.create": PROXIED,
    "secret.update": PROXIED,
    "secret.remove": PROXIED,
    "config.list": CONTROL,
    "config.get": CONTROL,
    "config.create": PROXIED,
    "config.update": PROXIED,
    "config.remove": PROXIED,
    "network.list": CONTROL,
    "network.get": CONTROL,
    "network.create": PROXIED,
    "network.remove": PROXIED,
    "cluster.get": CONTROL,
    "cluster.update": PROXIED,
    "cluster.unlock": CONTROL,
    "raft.status": CONTROL,
    "raft.rotate_key": CONTROL,
    "status": CONTROL,
    "audit": CONTROL,
    "watch": CONTROL,
}

ALL_METHODS = pytest.mark.parametrize("method", METHODS.values(), ids=str)


def _allows(method: Method[Any, Any], caller: Caller, standings: Known = LEADER) -> bool:
    try:
        authorise(method, caller, standings)
    except (PermissionDenied, Unauthenticated):
        return False
    return True


def test_every_method_has_its_line() -> None:
    assert TABLE.keys() == METHODS.keys()


@ALL_METHODS
def test_the_table_holds_on_the_leader(method: Method[Any, Any]) -> None:
    assert "".join(letter for letter, caller in LETTERS.items() if _allows(method, caller)) == TABLE[method.name]


@ALL_METHODS
def test_the_table_holds_on_a_follower(method: Method[Any, Any]) -> None:
    allowed = "".join(letter for letter, caller in LETTERS.items() if _allows(method, caller, FOLLOWER))
    assert allowed == TABLE[method.name]


@ALL_METHODS
@pytest.mark.parametrize("caller", NOBODY, ids=repr)
def test_these_may_call_nothing(method: Method[Any, Any], caller: Caller) -> None:
    assert not _allows(method, caller)


@ALL_METHODS
@pytest.mark.parametrize("name", list(IDENTITIES)[4:9])
def test_removal_and_revocation_hold_on_every_manager(method: Method[Any, Any], name: str) -> None:
    for standings in (FOLLOWER, BEHIND):
        assert not _allows(method, Caller(identity=IDENTITIES[name]), standings)
        assert not _allows(method, Caller(identity=IDENTITIES[name], forwarder=MANAGER), standings)
        assert not _allows(method, Caller(identity=WORKER, forwarder=IDENTITIES[name]), standings)


@ALL_METHODS
def test_a_follower_takes_nodes_it_does_not_know_yet_by_their_certificate(method: Method[Any, Any]) -> None:
    assert _allows(method, Caller(identity=UNKNOWN), FOLLOWER) == (Role.MANAGER in method.roles)
    assert not _allows(method, Caller(identity=UNKNOWN), LEADER)


def test_a_certificate_newer_than_a_followers_state_counts_for_what_it_says() -> None:
    fresh = _cert("demoted", Role.MANAGER, "of a promotion the follower has not heard of")
    assert present_role(fresh, FOLLOWER) is Role.MANAGER
    assert present_role(fresh, LEADER) is Role.WORKER
    assert _allows(RAFT_JOIN, Caller(identity=fresh), FOLLOWER)
    assert not _allows(RAFT_JOIN, Caller(identity=fresh), LEADER)


def test_without_fingerprints_the_stored_role_alone_counts() -> None:
    """A swarm with a manager of an older version keeps none, and no certificate looks newer there."""
    old = Known({"n": Standing(role=Role.WORKER)}, is_authoritative=False)
    assert present_role(_cert("n", Role.MANAGER, "any"), old) is Role.WORKER


def test_who_hears_no_leader_listens_to_raft_messages_of_whom_it_thinks_demoted() -> None:
    """It may have been promoted again since, and lead: the state that says so comes from it."""
    assert _allows(RAFT_MESSAGES, LETTERS["d"], BEHIND)
    assert not _allows(RAFT_MESSAGES, LETTERS["W"], BEHIND)
    assert not _allows(WATCH, LETTERS["d"], BEHIND)
    assert not _allows(RAFT_MESSAGES, LETTERS["d"], FOLLOWER)


def test_refusals_say_why() -> None:
    for name, reason in {
        "removed worker": "was removed",
        "revoked worker": "was revoked",
        "other swarm's": "another swarm",
        "unknown": "is not in this swarm",
    }.items():
        with pytest.raises(PermissionDenied, match=reason):
            authorise(HEALTH, Caller(identity=IDENTITIES[name]), LEADER)


def test_certificate_and_uid_arrive_where_a_call_is_passed_on_to() -> None:
    worker = origin(Caller(identity=MANAGER), Headers(forwarded=forwarded_header(Caller(identity=WORKER))))
    assert worker.identity == WORKER
    operator = Caller(identity=MANAGER, is_local=True, uid=1000, gid=5, pid=7, address="local user 1000")
    arrived = origin(Caller(identity=MANAGER), Headers(forwarded=forwarded_header(operator)))
    assert arrived.uid == 1000
    assert arrived.actor == operator.actor == "operator@m1 uid:1000"
    assert worker.actor == "node:w1"


def test_a_call_is_passed_on_once() -> None:
    """A forwarder that is itself forwarded cannot be said: the header names one origin, and proxies pass on no
    caller that has a forwarder already."""
    once = forwarded_header(Caller(identity=WORKER, forwarder=OTHER_MANAGER))
    assert once == forwarded_header(Caller(identity=WORKER))
    passed_on = [method for method in METHODS.values() if method.serves is Serves.LEADER_PROXY]
    assert NODE_UPDATE in passed_on
    with pytest.raises(PermissionDenied):
        origin(Caller(identity=WORKER), Headers(forwarded=ForwardedCaller(node_id="m1", swarm_id=SWARM)))
