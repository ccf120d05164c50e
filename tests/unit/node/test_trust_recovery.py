"""A node that missed the end of a rotation finds the new root again, and takes it only if it covers the node itself."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from swarmd.errors import Unauthenticated, Unavailable
from swarmd.model import Cluster, Role, RootCA, RootRotation
from swarmd.node.transport import NodeTransport
from swarmd.node.trust import Trust
from swarmd.node.trust_recovery import PAUSE_S_MAX, TrustRecovery
from swarmd.transport.connection import Router
from swarmd.transport.credentials import Credentials
from swarmd.transport.dialer import UnknownAuthority
from swarmd.transport.listener import Listener
from tests.unit.pki.chains import NOW, Root, leaf_of, made_root
from tests.unit.transport.certificates import TestAuthority

OLD, NEW, STRANGER = made_root("swarm-ca-old"), made_root("swarm-ca-new"), made_root("swarm-ca-stranger")


class Bench:
    """A node with a certificate of the new root, which trusts the old one still."""

    def __init__(self, role: Role = Role.WORKER, *, of: Root = NEW, answers: bytes = b"") -> None:
        certificate, key = leaf_of(of, role=role)
        behind = OLD.cross_sign(of) if of is not OLD else b""
        self.credentials = Credentials(certificate=certificate + behind, key=key, root=OLD.pem)
        self.trust = Trust(self.credentials, save=self.save, changing=trio.Lock(), now=lambda: NOW)
        self.asked: list[str] = []
        self.answers = answers
        self.cluster: Cluster | None = None
        self.recovery = TrustRecovery(
            self.credentials,
            self.trust,
            fetch=self.fetch,
            cluster=lambda: self.cluster,
            role=lambda: role,
            now=lambda: NOW,
            rng=random.Random(1),
        )

    async def save(self, root: bytes) -> None:
        await trio.lowlevel.checkpoint()

    async def fetch(self, address: str) -> bytes:
        await trio.lowlevel.checkpoint()
        self.asked.append(address)
        if not self.answers:
            raise Unavailable("gone")
        return self.answers

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.trust.run)
            nursery.start_soon(self.recovery.run)
            yield
            nursery.cancel_scope.cancel()


async def test_a_worker_takes_the_root_that_covers_it(autojump_clock: MockClock) -> None:
    bench = Bench(answers=NEW.pem)
    async with bench.running():
        await trio.sleep(3600)
        assert bench.asked == [], "nobody is asked without a reason"
        bench.recovery.suspect("a:1")
        await trio.sleep(1)
        assert bench.asked == ["a:1"]
        assert bench.credentials.root == NEW.pem


@pytest.mark.parametrize(
    "answers",
    [STRANGER.pem, NEW.pem + STRANGER.pem, b"rubbish", b"", OLD.pem],
    ids=["a stranger", "with a stranger", "rubbish", "nobody", "the same"],
)
async def test_whoever_answers_a_root_that_does_not_is_not_believed(autojump_clock: MockClock, answers: bytes) -> None:
    bench = Bench(answers=answers)
    async with bench.running():
        for _ in range(3600):
            bench.recovery.suspect("a:1")
            await trio.sleep(1)
        assert bench.credentials.root == OLD.pem
        assert 5 < len(bench.asked) < 2 * 3600 / PAUSE_S_MAX + 8, "ever less often"


async def test_a_manager_asks_nobody_and_believes_its_own_log(autojump_clock: MockClock) -> None:
    bench = Bench(Role.MANAGER, answers=NEW.pem)
    rotation = RootRotation(certificate=NEW.pem, cross_signed=OLD.cross_sign(NEW))
    async with bench.running():
        bench.recovery.suspect("a:1")
        await trio.sleep(60)
        assert bench.credentials.root == OLD.pem, "there is no log yet"
        bench.cluster = Cluster(id="s", root_ca=RootCA(certificate=OLD.pem, rotation=rotation))
        bench.recovery.suspect("a:1")
        await trio.sleep(60)
        assert bench.credentials.root == OLD.pem + NEW.pem
        assert bench.asked == []
        bench.trust.offer(NEW.pem)
        await trio.sleep(1)
        assert bench.credentials.root == NEW.pem, "what the dispatcher says then takes its place"


@pytest.mark.parametrize("wanted", [OLD, STRANGER])
async def test_a_managers_log_adds_nothing_that_does_not_cover_it(autojump_clock: MockClock, wanted: Root) -> None:
    bench = Bench(Role.MANAGER, of=OLD)
    bench.cluster = Cluster(
        id="s",
        root_ca=RootCA(certificate=OLD.pem, rotation=RootRotation(certificate=wanted.pem, cross_signed=b"")),
    )
    async with bench.running():
        bench.recovery.suspect("a:1")
        await trio.sleep(60)
        assert bench.credentials.root == OLD.pem


async def test_an_unknown_authority_is_told_apart_from_every_other_refusal() -> None:
    """Over real sockets: a stranger is suspected, an expired manager of our own swarm is not."""
    ours, strangers = TestAuthority("swarm-ca-ours"), TestAuthority("swarm-ca-strangers")
    suspected: list[str] = []
    client = NodeTransport(ours.credentials("w1", Role.WORKER), ())
    client.on_stranger = suspected.append
    expired = ours.issue("m2", valid_from_h=-2.0, valid_for_h=1.0)
    servers = {
        "stranger": strangers.credentials("m1"),
        "expired": Credentials(certificate=expired.certificate, key=expired.key, root=ours.root),
    }
    with trio.fail_after(20):
        for name, server in servers.items():
            router = Router(lambda _method, _caller: None)
            listener = Listener("127.0.0.1", 0, server, router, NodeTransport(server, ()).hello)
            async with trio.open_nursery() as nursery:
                address = f"127.0.0.1:{await nursery.start(listener.run)}"
                with pytest.raises(Unauthenticated) as refused:
                    async with client.dial(address):
                        pass
                assert isinstance(refused.value, UnknownAuthority) == (name == "stranger")
                assert suspected == ([address] if name == "stranger" else suspected)
                nursery.cancel_scope.cancel()
    assert len(suspected) == 1
