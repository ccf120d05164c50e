"""A new root is taken only if it vouches for this node, whoever sends it, and never at the cost of a renewal."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from cryptography import x509
from msgspec.structs import replace
from trio.testing import MockClock

from swarmd.errors import Invalid
from swarmd.model import Role
from swarmd.node.enrolment import CallConnection
from swarmd.node.renewal import Renewal
from swarmd.node.trust import Trust, require_covers
from swarmd.pki import verify_issued
from swarmd.pki.pem import key_pem, load_key
from swarmd.state.transaction import Transaction
from swarmd.storage.errors import StorageFailed
from swarmd.transport.credentials import Credentials
from swarmd.wire.identity import Caller
from tests.unit.manager.swarm_fixture import FakeConnection, Swarm, identity
from tests.unit.pki.chains import DAY, NODE, NOW, Root, leaf_of, made_root


class Bench:
    """A node that holds a certificate of `of` and trusts `trusted`."""

    def __init__(self, trusted: Root, of: Root, *, behind: bytes = b"", role: Role = Role.WORKER) -> None:
        certificate, key = leaf_of(of, role=role)
        self.certificate = certificate + behind
        self.credentials = Credentials(certificate=self.certificate, key=key, root=trusted.pem)
        self.saved: list[bytes] = []
        self.save_failures = 0
        self.now = NOW
        self.trust = Trust(self.credentials, save=self.save, changing=trio.Lock(), now=lambda: self.now)

    async def save(self, root: bytes) -> None:
        await trio.sleep(0.1)
        if self.save_failures:
            self.save_failures -= 1
            raise StorageFailed("disk full")
        self.saved.append(root)

    async def offer(self, root: bytes) -> None:
        self.trust.offer(root)
        await self.trust.apply()


OLD, NEW, STRANGER = made_root("swarm-ca-old"), made_root("swarm-ca-new"), made_root("swarm-ca-stranger")


def rotated() -> Bench:
    """As every node is when a rotation ends: a certificate of the new root, which it does not trust yet."""
    return Bench(OLD, NEW, behind=OLD.cross_sign(NEW))


async def test_the_new_root_is_saved_and_then_used(autojump_clock: MockClock) -> None:
    bench = rotated()
    before, changed = bench.credentials.client_context(), bench.credentials.changed
    await bench.offer(NEW.pem)
    assert bench.saved == [NEW.pem]
    assert bench.credentials.root == NEW.pem
    assert bench.credentials.client_context() is not before
    assert bench.credentials.certificate == bench.certificate
    assert changed.is_set()


async def test_the_present_root_again_changes_nothing(autojump_clock: MockClock) -> None:
    bench = rotated()
    await bench.offer(OLD.pem)
    assert bench.saved == []
    assert not bench.credentials.changed.is_set()


@pytest.mark.parametrize(
    ("offered", "reason"),
    [
        (STRANGER.pem, "does not vouch"),
        (NEW.pem + STRANGER.pem, "number 2 of 2 roots does not vouch"),
        (STRANGER.pem + NEW.pem, "number 1 of 2 roots does not vouch"),
        (OLD.pem + NEW.pem + STRANGER.pem, "at most 2"),
        (b"rubbish", "no certificate bundle"),
        (made_root("swarm-ca-new").pem, "does not vouch"),
    ],
    ids=["a stranger", "a stranger behind", "a stranger before", "three", "rubbish", "a namesake"],
)
async def test_a_root_that_does_not_cover_us_is_refused_and_the_old_one_stays(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, offered: bytes, reason: str
) -> None:
    """Row 30 of the threats."""
    bench = rotated()
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            await bench.offer(offered)
    assert bench.saved == []
    assert bench.credentials.root == OLD.pem
    lines = [record.message for record in caplog.records if record.name == "swarmd.node.trust"]
    assert len(lines) == 1, "told once"
    assert reason in lines[0]
    assert "BEGIN" not in caplog.text


async def test_a_bundle_of_which_each_root_covers_us_is_taken(autojump_clock: MockClock) -> None:
    bench = rotated()
    await bench.offer(OLD.pem + NEW.pem)
    assert bench.credentials.root == OLD.pem + NEW.pem


async def test_a_root_that_has_expired_is_refused(autojump_clock: MockClock) -> None:
    expired = made_root("expired", until=NOW - DAY)
    bench = Bench(OLD, expired, behind=OLD.cross_sign(expired))
    await bench.offer(expired.pem)
    assert bench.credentials.root == OLD.pem


async def test_an_expired_certificate_of_our_own_does_not_matter(autojump_clock: MockClock) -> None:
    bench = rotated()
    bench.now = NOW + 200 * DAY
    await bench.offer(NEW.pem)
    assert bench.credentials.root == NEW.pem


async def test_a_disk_that_refuses_leaves_the_old_root_in_use_until_it_takes_the_new(
    autojump_clock: MockClock,
) -> None:
    bench = rotated()
    bench.save_failures = 2
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.trust.run)
        bench.trust.offer(NEW.pem)
        await trio.sleep(1)
        assert bench.credentials.root == OLD.pem
        await trio.sleep(30)
        assert bench.credentials.root == NEW.pem
        assert bench.saved == [NEW.pem]
        nursery.cancel_scope.cancel()


async def test_what_was_refused_is_taken_once_the_certificate_is_one_that_it_covers(
    autojump_clock: MockClock,
) -> None:
    bench = Bench(OLD, OLD)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.trust.run)
        bench.trust.offer(NEW.pem)
        await trio.sleep(1)
        assert bench.credentials.root == OLD.pem
        certificate, key = leaf_of(NEW, role=Role.WORKER)
        bench.credentials.replace(certificate=certificate + OLD.cross_sign(NEW), key=key, root=OLD.pem)
        bench.trust.certificate_changed()
        await trio.sleep(1)
        assert bench.credentials.root == NEW.pem
        nursery.cancel_scope.cancel()


def test_each_root_must_cover_the_chain_by_itself() -> None:
    certificate, _ = leaf_of(NEW)
    require_covers(NEW.pem, certificate, NOW)
    require_covers(OLD.pem, certificate + OLD.cross_sign(NEW), NOW)
    with pytest.raises(Invalid):
        require_covers(OLD.pem, certificate, NOW)


@pytest.mark.parametrize("first", range(5))
async def test_a_root_and_a_renewal_that_race_are_both_applied(autojump_clock: MockClock, first: int) -> None:
    """Row 20 of the scenarios: whichever is first at the disk, both are in use and on it in the end."""
    swarm = Swarm()
    node = swarm.add_node(NODE)
    old = _root_of(swarm)
    new = made_root("swarm-ca-new")
    certificate, key = leaf_of(new, role=node.role)
    certificate += old.cross_sign(new)
    disk: dict[str, bytes] = {"root": swarm.root, "pair": certificate}
    changing = trio.Lock()

    async def save_pair(certificate: bytes, key: bytes) -> None:
        await trio.sleep(0.1 * first)
        disk["pair"] = certificate

    async def save_root(root: bytes) -> None:
        await trio.sleep(0.1 * (4 - first))
        disk["root"] = root

    @asynccontextmanager
    async def connect(*, anonymous: bool) -> AsyncIterator[CallConnection]:
        await trio.sleep(0.05 * first)
        yield FakeConnection(swarm, Caller(identity=identity(NODE), address="x:1"))

    credentials = Credentials(certificate=certificate, key=key, root=swarm.root)
    trust = Trust(credentials, save=save_root, changing=changing, now=swarm.store.now)
    renewal = Renewal(
        certificate=certificate,
        key=key,
        connect=connect,
        save=save_pair,
        credentials=credentials,
        renewed=lambda _: trust.certificate_changed(),
        changing=changing,
        now=swarm.store.now,
        rng=random.Random(first),
    )
    # What the leader issues from here on is of the new root, as it is at the end of a rotation.
    _sign_with(swarm, new)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trust.run)
        nursery.start_soon(renewal.run)
        renewal.force()
        trust.offer(new.pem)
        await trio.sleep(5)
        assert credentials.root == disk["root"] == new.pem
        assert credentials.certificate == disk["pair"] != certificate
        verify_issued(disk["pair"], root=new.pem, key=renewal._key, now=swarm.store.now())
        nursery.cancel_scope.cancel()


def _root_of(swarm: Swarm) -> Root:
    return Root(x509.load_pem_x509_certificate(swarm.root), load_key(swarm.authority.key))


def _sign_with(swarm: Swarm, new: Root) -> None:
    def fn(tx: Transaction) -> None:
        cluster = tx.cluster()
        assert cluster is not None
        root = replace(cluster.root_ca, certificate=new.pem, key=key_pem(new.key))
        tx.update(replace(cluster, root_ca=root))

    swarm.store.write(fn)
