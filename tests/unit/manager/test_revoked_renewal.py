"""A revoked certificate renews nothing, by whichever door it comes."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from swarmd.errors import PermissionDenied
from swarmd.model import Role
from swarmd.pki import fingerprint, new_key_and_csr, sign_renewal
from swarmd.state.features import SECURITY
from swarmd.wire import ca
from swarmd.wire.identity import Caller
from swarmd.wire.methods import CA_ISSUE
from tests.unit.manager.swarm_fixture import Swarm, identity


def _swarm() -> Swarm:
    swarm = Swarm()

    def track(tx: Any) -> None:
        cluster = tx.cluster()
        tx.update(replace(cluster, feature_level=(*cluster.feature_level, SECURITY)))

    swarm.store.write(track)
    return swarm


async def test_each_issue_keeps_the_fingerprint_and_the_one_before() -> None:
    swarm = _swarm()
    swarm.add_node("n", Role.MANAGER)
    fingerprints = []
    for _ in range(2):
        _, csr = new_key_and_csr()
        await swarm.call(CA_ISSUE, ca.IssueRequest(csr=csr), Caller(identity=identity("n")))
        fingerprints.append(fingerprint(swarm.node("n").certificate.certificate))
    certificate = swarm.node("n").certificate
    assert certificate.fingerprint == fingerprints[1]
    assert [(one.fingerprint, one.role) for one in certificate.earlier] == [(fingerprints[0], Role.MANAGER)]


async def test_a_new_node_begins_with_its_own() -> None:
    swarm = _swarm()
    _, csr = new_key_and_csr()
    reply = await swarm.call(CA_ISSUE, ca.IssueRequest(csr=csr, token=swarm.tokens.worker), Caller(address="h:1"))
    certificate = swarm.node(reply.node_id).certificate
    assert (certificate.fingerprint, certificate.earlier) == (fingerprint(certificate.certificate), ())


async def test_an_expired_certificate_that_was_revoked_is_no_ticket() -> None:
    swarm = _swarm()
    swarm.add_node("n")
    key, csr = new_key_and_csr()
    await swarm.call(CA_ISSUE, ca.IssueRequest(csr=csr), Caller(identity=identity("n")))
    old = swarm.node("n").certificate.certificate
    _, second = new_key_and_csr()
    await swarm.call(CA_ISSUE, ca.IssueRequest(csr=second), Caller(identity=identity("n")))

    def revoke(tx: Any) -> None:
        node = tx.node("n")
        earlier = tuple(replace(one, is_revoked=True) for one in node.certificate.earlier)
        tx.update(replace(node, certificate=replace(node.certificate, earlier=earlier)))

    swarm.store.write(revoke)
    _, third = new_key_and_csr()
    request = ca.IssueRequest(csr=third, renewal_certificate=old, renewal_signature=sign_renewal(key, third))
    with pytest.raises(PermissionDenied, match="revoked"):
        await swarm.call(CA_ISSUE, request, Caller(address="h:1"))
    assert swarm.node("n").certificate.csr == second
