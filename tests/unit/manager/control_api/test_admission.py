"""Nodes that wait: who lets them in, and how they are turned away."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from swarmd.errors import FailedPrecondition, Invalid, NotFound, PermissionDenied
from swarmd.model import (
    Availability,
    Cluster,
    IssuanceState,
    Membership,
    Node,
    NodeCertificate,
    NodeDescription,
    NodeSpec,
    RootCA,
)
from swarmd.pki import Authority, fingerprint, join_code, new_key_and_csr, root_digest, verify_issued
from swarmd.state.features import SECURITY
from swarmd.state.transaction import Transaction
from swarmd.wire.control import AcceptNode, GetObject, ListNodes, RejectNode, RemoveNode, UpdateNode
from swarmd.wire.methods import NODE_ACCEPT, NODE_GET, NODE_LIST, NODE_REJECT, NODE_REMOVE, NODE_UPDATE
from tests.unit.manager.control_api.api_world import SWARM, World
from tests.unit.manager.local_store import EPOCH

AUTHORITY = Authority.create(EPOCH)
KEY, CSR = new_key_and_csr()
CODE = join_code(AUTHORITY.certificate, CSR)


@pytest.fixture
def world() -> World:
    world = World()
    root = RootCA(certificate=AUTHORITY.certificate, key=AUTHORITY.key, digest=root_digest(AUTHORITY.certificate))
    waiting = Node(
        id="w1",
        spec=NodeSpec(membership=Membership.PENDING),
        description=NodeDescription(hostname="web-1"),
        certificate=NodeCertificate(csr=CSR, state=IssuanceState.PENDING),
    )
    world.store.create(Cluster(id=SWARM, root_ca=root), waiting)
    return world


def stored(world: World) -> Node | None:
    return world.store.state.node("w1")


async def test_its_code_is_shown_while_it_waits_and_no_longer(world: World) -> None:
    assert (await world.ask(NODE_GET, GetObject(id="w1"))).join_code == CODE
    assert (await world.ask(NODE_LIST, ListNodes())).nodes[0].join_code == CODE
    view = await world.ask(NODE_ACCEPT, AcceptNode(id="w1", join_code=CODE))
    assert view.join_code == ""
    assert (await world.ask(NODE_GET, GetObject(id="w1"))).join_code == ""


async def test_accepted_it_has_its_certificate_in_the_same_entry(world: World) -> None:
    before = world.store.state.index
    await world.ask(NODE_ACCEPT, AcceptNode(id="w1", join_code=CODE.upper()))
    assert world.store.state.index == before + 1
    node = stored(world)
    assert node is not None
    assert node.spec.membership is Membership.ACCEPTED
    assert node.certificate.state is IssuanceState.ISSUED
    subject = verify_issued(node.certificate.certificate, root=AUTHORITY.certificate, key=KEY, now=world.store.now())
    assert (subject.node_id, subject.swarm_id) == ("w1", SWARM)
    assert node.certificate.expires_at == subject.not_after


async def test_accepting_twice_is_once(world: World) -> None:
    await world.ask(NODE_ACCEPT, AcceptNode(id="w1", join_code=CODE))
    before = stored(world)
    await world.ask(NODE_ACCEPT, AcceptNode(id="w1", join_code=CODE))
    assert stored(world) == before


@pytest.mark.parametrize("code", ["x", CODE[:-1], CODE[:-4], join_code(AUTHORITY.certificate, new_key_and_csr()[1])])
async def test_another_code_lets_nobody_in(world: World, code: str) -> None:
    before = stored(world)
    with pytest.raises(PermissionDenied) as refused:
        await world.ask(NODE_ACCEPT, AcceptNode(id="w1", join_code=code))
    assert CODE not in str(refused.value) + (refused.value.hint or "")
    assert stored(world) == before


async def test_what_is_missing_is_named(world: World) -> None:
    with pytest.raises(Invalid, match="join code"):
        await world.ask(NODE_ACCEPT, AcceptNode(id="w1", join_code=""))
    with pytest.raises(Invalid, match="id"):
        await world.ask(NODE_ACCEPT, AcceptNode(id="", join_code=CODE))
    with pytest.raises(NotFound):
        await world.ask(NODE_ACCEPT, AcceptNode(id="w2", join_code=CODE))
    with pytest.raises(NotFound):
        await world.ask(NODE_REJECT, RejectNode(id="w2"))


async def test_turned_away_it_is_gone_and_remembered_for_a_day(world: World) -> None:
    await world.ask(NODE_REJECT, RejectNode(id="w1"))
    assert stored(world) is None
    removed = world.store.state.removed_node("w1")
    assert removed is not None
    assert removed.expires_at == EPOCH + 24 * 3600


async def test_a_node_that_is_in_is_not_turned_away(world: World) -> None:
    await world.ask(NODE_ACCEPT, AcceptNode(id="w1", join_code=CODE))
    with pytest.raises(FailedPrecondition) as refused:
        await world.ask(NODE_REJECT, RejectNode(id="w1"))
    assert "node rm" in (refused.value.hint or "")


async def test_removing_one_that_waits_turns_it_away(world: World) -> None:
    await world.ask(NODE_REMOVE, RemoveNode(id="w1"))
    assert stored(world) is None
    assert world.store.state.removed_node("w1") is not None


@pytest.mark.parametrize("spec", [{"membership": Membership.ACCEPTED}, {"availability": Availability.DRAIN}])
async def test_no_other_door_lets_it_in(world: World, spec: dict[str, Any]) -> None:
    before = stored(world)
    assert before is not None
    with pytest.raises(FailedPrecondition, match="join code alone"):
        await world.ask(NODE_UPDATE, UpdateNode(id="w1", spec=replace(before.spec, **spec)))
    assert stored(world) == before


async def test_a_node_that_is_in_cannot_be_made_to_wait(world: World) -> None:
    await world.ask(NODE_ACCEPT, AcceptNode(id="w1", join_code=CODE))
    with pytest.raises(FailedPrecondition, match="made to wait"):
        await world.ask(NODE_UPDATE, UpdateNode(id="w1", spec=NodeSpec(membership=Membership.PENDING)))


async def test_accepted_its_certificate_can_be_revoked_later(world: World) -> None:
    """Its fingerprint is kept as soon as every manager knows what that is."""

    def raise_level(tx: Transaction) -> None:
        cluster = tx.cluster()
        assert cluster is not None
        tx.update(replace(cluster, feature_level=(*cluster.feature_level, SECURITY)))

    world.store.write(raise_level)
    await world.ask(NODE_ACCEPT, AcceptNode(id="w1", join_code=CODE))
    node = stored(world)
    assert node is not None
    assert node.certificate.fingerprint == fingerprint(node.certificate.certificate)
