"""`node.renew`: the node is told at its session, once, and only if it has a certificate to renew."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from swarmd.errors import FailedPrecondition, Invalid, NotFound
from swarmd.model import Cluster, IssuanceState, Membership, Node, NodeCertificate, NodeSpec
from swarmd.wire.control import GetObject
from swarmd.wire.methods import NODE_RENEW
from tests.unit.manager.control_api.api_world import SWARM, World

ISSUED = NodeCertificate(csr=b"csr", certificate=b"pem", state=IssuanceState.ISSUED, expires_at=5.0)


def world_of(certificate: NodeCertificate, membership: Membership = Membership.ACCEPTED) -> World:
    world = World()
    world.store.create(Cluster(id=SWARM), Node(id="n1", spec=NodeSpec(membership=membership), certificate=certificate))
    return world


def stored(world: World) -> Node:
    node = world.store.state.node("n1")
    assert node is not None
    return node


@pytest.mark.parametrize("state", [IssuanceState.ISSUED, IssuanceState.FAILED])
async def test_the_node_is_told_to_renew_and_keeps_what_it_has(state: IssuanceState) -> None:
    world = world_of(replace(ISSUED, state=state))
    view = await world.ask(NODE_RENEW, GetObject(id="n1"))
    assert view.node.certificate.state is IssuanceState.ROTATE
    assert stored(world).certificate == replace(ISSUED, state=IssuanceState.ROTATE)
    assert (view.node.certificate.csr, view.node.certificate.certificate) == (b"", b"")
    assert view.node.certificate.expires_at == 5.0


@pytest.mark.parametrize("state", [IssuanceState.ROTATE, IssuanceState.RENEW])
async def test_told_before_nothing_is_written(state: IssuanceState) -> None:
    world = world_of(replace(ISSUED, state=state))
    before = stored(world)
    await world.ask(NODE_RENEW, GetObject(id="n1"))
    assert stored(world) == before


async def test_a_node_that_waits_to_be_let_in_has_nothing_to_renew() -> None:
    world = world_of(NodeCertificate(state=IssuanceState.PENDING), Membership.PENDING)
    with pytest.raises(FailedPrecondition, match="no certificate yet"):
        await world.ask(NODE_RENEW, GetObject(id="n1"))
    assert stored(world).certificate.state is IssuanceState.PENDING


async def test_unknown_and_missing_ids() -> None:
    world = world_of(ISSUED)
    with pytest.raises(NotFound):
        await world.ask(NODE_RENEW, GetObject(id="nobody"))
    with pytest.raises(Invalid):
        await world.ask(NODE_RENEW, GetObject(id=""))
