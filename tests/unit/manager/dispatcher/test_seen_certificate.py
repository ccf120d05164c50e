"""What is written of the certificate that a node was seen with, and what becomes of its earlier ones."""

from __future__ import annotations

import hashlib

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from swarmd.manager.dispatcher import LocalLink, handlers
from swarmd.manager.dispatcher.seen_certificate import seen_certificate, with_seen
from swarmd.model import (
    Cluster,
    EarlierCertificate,
    Node,
    NodeCertificate,
    NodeState,
    Role,
    RootCA,
    RootRotation,
)
from swarmd.pki import fingerprint
from swarmd.state.features import SECURITY
from swarmd.wire.identity import Caller, Identity
from swarmd.wire.methods import SESSION
from tests.unit.manager.dispatcher.test_doors import FakeStream, call
from tests.unit.manager.dispatcher.world import N1, REGISTER, World, node, settle
from tests.unit.manager.local_store import EPOCH
from tests.unit.pki.chains import Root, der, leaf_of, made_root

OLD, NEW = made_root("swarm-ca-old"), made_root("swarm-ca-new")


def cluster(*, rotating: Root | None = None, has_feature: bool = True) -> Cluster:
    rotation = None
    if rotating is not None:
        rotation = RootRotation(certificate=rotating.pem, cross_signed=OLD.cross_sign(rotating))
    return Cluster(
        id="swarm",
        root_ca=RootCA(certificate=OLD.pem, rotation=rotation),
        feature_level=("base.1", SECURITY) if has_feature else ("base.1",),
    )


def leaf(root: Root) -> bytes:
    return der(leaf_of(root, node_id=N1)[0])


def earlier(name: str, *, lives_s: float = 1000.0, is_revoked: bool = False) -> EarlierCertificate:
    return EarlierCertificate(fingerprint=name, expires_at=EPOCH + lives_s, is_revoked=is_revoked)


# -- what is written ---------------------------------------------------------------------------------------------


def test_it_is_the_fingerprint_of_what_was_shown() -> None:
    shown = leaf(OLD)
    seen = seen_certificate(shown, cluster())
    assert seen is not None
    assert (seen.fingerprint, seen.issuer) == (hashlib.sha256(shown).hexdigest(), "")


def test_the_issuer_is_the_root_being_rotated_to_and_only_if_its_key_signed() -> None:
    rotating = cluster(rotating=NEW)
    of_new, of_old = seen_certificate(leaf(NEW), rotating), seen_certificate(leaf(OLD), rotating)
    assert of_new is not None
    assert of_old is not None
    assert (of_new.issuer, of_old.issuer) == (fingerprint(NEW.pem), "")


def test_no_signature_is_checked_while_nothing_is_rotated() -> None:
    seen = seen_certificate(leaf(NEW), cluster())
    assert seen is not None
    assert seen.issuer == ""


def test_a_root_of_the_same_name_is_no_proof() -> None:
    """Row 31 of the threats: what a node claims is not looked at, and a name proves nothing."""
    seen = seen_certificate(leaf(made_root("swarm-ca-new")), cluster(rotating=NEW))
    assert seen is not None
    assert seen.issuer == ""


@pytest.mark.parametrize(
    ("shown", "known"),
    [(leaf(OLD), cluster(has_feature=False)), (leaf(OLD), None), (b"", cluster())],
    ids=["an older manager takes part", "no cluster", "no certificate"],
)
def test_otherwise_nothing_is_written(shown: bytes, known: Cluster | None) -> None:
    assert seen_certificate(shown, known) is None


def test_an_earlier_certificate_counts_until_its_successor_was_seen() -> None:
    known = NodeCertificate(fingerprint="current", earlier=(earlier("a"), earlier("b"), earlier("gone", lives_s=-1)))
    stored = Node(id=N1, certificate=known)
    of = seen_certificate(leaf(OLD), cluster())
    assert of is not None
    still_old = with_seen(stored, replace(of, fingerprint="a"), EPOCH)
    assert still_old.certificate.earlier == (earlier("a"), earlier("b"))
    assert still_old.status.certificate == "a"
    current = with_seen(still_old, replace(of, fingerprint="current"), EPOCH)
    assert current.certificate.earlier == (earlier("a", is_revoked=True), earlier("b", is_revoked=True))
    assert with_seen(current, replace(of, fingerprint="b"), EPOCH).certificate == current.certificate


def test_a_node_without_fingerprints_loses_nothing_by_being_seen() -> None:
    stored = Node(id=N1, certificate=NodeCertificate(earlier=(earlier("a"),)))
    of = seen_certificate(leaf(OLD), cluster())
    assert of is not None
    assert with_seen(stored, replace(of, fingerprint=""), EPOCH).certificate == stored.certificate


# -- who sees it -------------------------------------------------------------------------------------------------


async def test_a_registration_over_the_network_writes_it_at_once(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    world.update_cluster(feature_level=(SECURITY,))
    world.update_cluster(root_ca=cluster(rotating=NEW).root_ca)
    shown = leaf(NEW)
    own = NodeCertificate(fingerprint=hashlib.sha256(shown).hexdigest(), earlier=(earlier("a"),))
    world.update(world.node(N1), certificate=own)
    caller = Caller(
        identity=Identity(node_id=N1, role=Role.WORKER, swarm_id="s"), address="192.0.2.1:5", certificate=shown
    )
    async with world.reign() as dispatcher:
        stream = FakeStream()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dict(handlers(lambda: dispatcher))[SESSION], call(caller), REGISTER, stream)
            await stream.receive_channel.receive()
            status = world.status(N1)
            assert (status.certificate, status.issuer) == (own.fingerprint, fingerprint(NEW.pem))
            assert status.state is NodeState.READY
            assert world.node(N1).certificate.earlier == (earlier("a", is_revoked=True),)
            index = world.store.state.index
            await settle()
            assert world.store.state.index == index
            nursery.cancel_scope.cancel()


async def test_the_leaders_own_agent_is_seen_with_its_nodes_certificate(autojump_clock: MockClock) -> None:
    world = World(node(N1))
    world.update_cluster(feature_level=(SECURITY,))
    shown = leaf(OLD)
    async with world.reign() as dispatcher:
        link = LocalLink(dispatcher, N1, "10.0.0.1:4242", shown)
        async with link.session(REGISTER) as messages:
            await messages.__anext__()
            assert world.status(N1).certificate == hashlib.sha256(shown).hexdigest()


async def test_a_resumed_session_over_a_new_connection_is_seen_with_the_new_certificate(
    autojump_clock: MockClock,
) -> None:
    """The node stays READY throughout, and no registration is counted against it."""
    world = World(node(N1))
    world.update_cluster(feature_level=(SECURITY,))
    states = []
    async with world.reign() as dispatcher:
        request = REGISTER
        async with dispatcher.session(N1, "h:1", request, certificate=leaf(OLD)) as first:
            session_id = (await first.__anext__()).session_id
            for _ in range(5):
                shown = leaf(OLD)
                again = replace(request, session_id=session_id)
                async with dispatcher.session(N1, "h:2", again, certificate=shown) as stream:
                    assert (await stream.__anext__()).session_id == session_id
                    assert world.status(N1).certificate == hashlib.sha256(shown).hexdigest()
                    states.append(world.state(N1))
    assert set(states) == {NodeState.READY}
