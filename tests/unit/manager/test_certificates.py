"""Which certificates a node's record counts, and what the doors and dialers make of it."""

from __future__ import annotations

from typing import Final

import pytest
from msgspec.structs import replace

from swarmd.errors import ResourceExhausted
from swarmd.manager.certificates import EARLIER_MAX, distrusted, manager_fingerprints, tracked
from swarmd.manager.standing import KEPT_MAX, StateStandings, standing_of
from swarmd.model import Cluster, EarlierCertificate, IssuanceState, Node, NodeCertificate, RemovedNode, Role
from swarmd.pki import Authority, fingerprint, new_key_and_csr
from swarmd.state.command import Table
from swarmd.state.features import SECURITY, feature_needed
from swarmd.state.store import State
from swarmd.wire.authorise import REMOVED
from tests.unit.manager.local_store import EPOCH, LocalStore

NOW: Final = EPOCH
AUTHORITY: Final = Authority.create(NOW)
CLUSTER: Final = Cluster(id="s", feature_level=(SECURITY,))


def _issued(role: Role = Role.WORKER, expires_at: float = NOW + 100) -> NodeCertificate:
    _, csr = new_key_and_csr()
    certificate = AUTHORITY.sign(csr, node_id="n", role=role, swarm_id="s", now=NOW, expiry_s=7 * 86400.0)
    return NodeCertificate(
        role=role, csr=csr, state=IssuanceState.ISSUED, certificate=certificate, expires_at=expires_at
    )


def test_the_first_certificate_has_its_fingerprint_and_no_earlier_ones() -> None:
    issued = tracked(CLUSTER, _issued(), NodeCertificate(), NOW)
    assert issued.fingerprint == fingerprint(issued.certificate)
    assert issued.earlier == ()


def test_a_renewal_remembers_what_it_replaces() -> None:
    first = tracked(CLUSTER, _issued(Role.MANAGER), NodeCertificate(), NOW)
    second = tracked(CLUSTER, _issued(), first, NOW)
    third = tracked(CLUSTER, _issued(), second, NOW)
    assert [(old.fingerprint, old.role) for old in third.earlier] == [
        (second.fingerprint, Role.WORKER),
        (first.fingerprint, Role.MANAGER),
    ]


def test_expired_ones_are_forgotten_and_what_was_revoked_stays_so() -> None:
    revoked = EarlierCertificate(fingerprint="r", expires_at=NOW + 1, is_revoked=True)
    expired = EarlierCertificate(fingerprint="e", expires_at=NOW)
    before = replace(tracked(CLUSTER, _issued(expires_at=NOW), NodeCertificate(), NOW), earlier=(revoked, expired))
    assert tracked(CLUSTER, _issued(), before, NOW).earlier == (revoked,)


def test_one_from_before_fingerprints_were_kept_is_read() -> None:
    before = _issued()
    assert before.fingerprint == ""
    assert tracked(CLUSTER, _issued(), before, NOW).earlier[0].fingerprint == fingerprint(before.certificate)


def test_nothing_is_written_that_an_older_manager_would_not_know() -> None:
    issued = _issued()
    assert tracked(Cluster(id="s", feature_level=("base.1",)), issued, _issued(), NOW) is issued


def test_a_node_that_renews_without_end_is_refused() -> None:
    earlier = tuple(EarlierCertificate(fingerprint=f"{n}", expires_at=NOW + 1) for n in range(EARLIER_MAX - 1))
    before = replace(tracked(CLUSTER, _issued(), NodeCertificate(), NOW), earlier=earlier)
    full = tracked(CLUSTER, _issued(), before, NOW)
    assert len(full.earlier) == EARLIER_MAX
    with pytest.raises(ResourceExhausted) as refusal:
        tracked(CLUSTER, _issued(), full, NOW)
    assert refusal.value.hint


def _node(role: Role, certificate: NodeCertificate, node_id: str = "n") -> Node:
    return Node(id=node_id, role=role, certificate=certificate)


def test_who_is_no_manager_any_more_is_distrusted_with_every_certificate_of_one() -> None:
    as_manager = tracked(CLUSTER, _issued(Role.MANAGER), NodeCertificate(), NOW)
    assert distrusted(_node(Role.MANAGER, as_manager), NOW) == ()
    assert distrusted(_node(Role.WORKER, as_manager), NOW) == (as_manager.fingerprint,)
    renewed = tracked(CLUSTER, _issued(), as_manager, NOW)
    assert distrusted(_node(Role.WORKER, renewed), NOW) == (as_manager.fingerprint,)
    assert distrusted(_node(Role.WORKER, renewed), NOW + 1000) == ()
    assert manager_fingerprints(renewed, NOW) == (as_manager.fingerprint,)


def test_a_managers_revoked_certificate_is_distrusted_and_a_workers_is_none_to_trust() -> None:
    first = tracked(CLUSTER, _issued(Role.MANAGER), NodeCertificate(), NOW)
    second = tracked(CLUSTER, _issued(Role.MANAGER), first, NOW)
    revoked = replace(second, earlier=(replace(second.earlier[0], is_revoked=True),))
    assert distrusted(_node(Role.MANAGER, second), NOW) == ()
    assert distrusted(_node(Role.MANAGER, revoked), NOW) == (first.fingerprint,)
    assert distrusted(_node(Role.WORKER, tracked(CLUSTER, _issued(), NodeCertificate(), NOW)), NOW) == ()


class _Log:
    def __init__(self, state: State) -> None:
        self.state = state
        self.is_leading = False
        self.leader = 0


def test_standings_follow_the_state() -> None:
    store = LocalStore()
    log = _Log(store.state)
    standings = StateStandings("s", lambda: log)
    assert standings.of("n") is None
    store.create(CLUSTER, _node(Role.MANAGER, tracked(CLUSTER, _issued(Role.MANAGER), NodeCertificate(), NOW)))
    standing = standings.of("n")
    assert standing is not None
    assert standing.role is Role.MANAGER
    assert standings.of("n") is standing, "kept while the record is the same"

    def demote(tx: object) -> None:
        node = store.state.node("n")
        assert node is not None
        tx.update(replace(node, role=Role.WORKER))  # type: ignore[attr-defined]

    store.write(demote)
    demoted = standings.of("n")
    assert demoted is not None
    assert demoted.role is Role.WORKER
    store.write(lambda tx: (tx.remove(Table.NODE, "n"), tx.create(RemovedNode(id="n"))))
    assert standings.of("n") is REMOVED


def test_who_leads_and_who_hears_a_leader() -> None:
    store = LocalStore()
    log: _Log | None = None
    standings = StateStandings("s", lambda: log)
    assert (standings.is_authoritative, standings.has_leader, standings.of("n")) == (False, False, None)
    log = _Log(store.state)
    assert (standings.is_authoritative, standings.has_leader) == (False, False)
    log.leader = 7
    assert (standings.is_authoritative, standings.has_leader) == (False, True)
    log.is_leading = True
    assert (standings.is_authoritative, standings.has_leader) == (True, True)


def test_what_is_kept_ready_is_bounded() -> None:
    state = State()
    log = _Log(state)
    standings = StateStandings("s", lambda: log)
    node = _node(Role.WORKER, NodeCertificate())
    standings._kept.update({f"{n}": (node, standing_of(node)) for n in range(KEPT_MAX)})
    state._tables.nodes.objects["n"] = node
    assert standings.of("n") is not None
    assert len(standings._kept) == 1


def test_a_removal_that_names_certificates_needs_managers_that_know_of_them() -> None:
    assert feature_needed(RemovedNode(id="n")) == ""
    assert feature_needed(RemovedNode(id="n", fingerprints=("a",))) == SECURITY


def test_a_record_that_waits_for_a_signature_keeps_what_its_certificate_is() -> None:
    """An external CA answers later: until then the record names the role to come and holds the certificate of old."""
    as_manager = tracked(CLUSTER, _issued(Role.MANAGER), NodeCertificate(), NOW)
    waiting = replace(as_manager, role=Role.WORKER, state=IssuanceState.RENEW)
    assert tracked(CLUSTER, waiting, as_manager, NOW) is waiting
    assert distrusted(_node(Role.WORKER, waiting), NOW) == (as_manager.fingerprint,)
    renewed = tracked(CLUSTER, _issued(), waiting, NOW)
    assert [(old.fingerprint, old.role) for old in renewed.earlier] == [(as_manager.fingerprint, Role.MANAGER)]
