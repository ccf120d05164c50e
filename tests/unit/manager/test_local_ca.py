from __future__ import annotations

import hashlib

import pytest
import trio
import trio.testing

from swarmd.errors import DeadlineExceeded, NotFound
from swarmd.manager.local_ca import LocalCA
from swarmd.model import Role
from swarmd.pki import new_key_and_csr, read_subject
from swarmd.wire import ca
from swarmd.wire.methods import CA_ISSUE, CA_ROOT, CA_STATUS
from tests.unit.manager.swarm_fixture import Swarm, identity


async def test_the_leader_gets_a_certificate_without_a_connection(autojump_clock: trio.testing.MockClock) -> None:
    swarm = Swarm()
    swarm.add_node("leader", Role.MANAGER)
    local = LocalCA(swarm.server, identity("leader", Role.MANAGER))
    assert (await local.call(CA_ROOT, ca.RootRequest())).certificate == swarm.root
    _, csr = new_key_and_csr()
    issued = await local.call(CA_ISSUE, ca.IssueRequest(csr=csr))
    request = ca.StatusRequest(node_id=issued.node_id, csr_sha256=hashlib.sha256(csr).digest())
    status = await local.call(CA_STATUS, request)
    assert read_subject(status.certificate).node_id == "leader"


async def test_it_fails_as_a_connection_would(autojump_clock: trio.testing.MockClock) -> None:
    swarm = Swarm()
    local = LocalCA(swarm.server, identity("nobody", Role.MANAGER))
    _, csr = new_key_and_csr()
    with pytest.raises(NotFound):
        await local.call(CA_ISSUE, ca.IssueRequest(csr=csr))
    swarm.add_node("nobody", Role.MANAGER)
    swarm.store.latency_s = 60
    with pytest.raises(DeadlineExceeded):
        await local.call(CA_ISSUE, ca.IssueRequest(csr=csr))
