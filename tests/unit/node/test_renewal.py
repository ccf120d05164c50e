"""Renewal: in time, at once for a new role, patient with failures, and never half done."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
from trio.testing import MockClock

from swarmd.errors import Invalid, Unavailable
from swarmd.model import IssuanceState, Node, Role
from swarmd.node.enrolment import CallConnection
from swarmd.node.renewal import Renewal
from swarmd.pki import Subject, new_key_and_csr, read_subject, verify_issued
from swarmd.storage.errors import StorageFailed
from swarmd.wire.identity import Caller
from tests.unit.manager.local_store import EPOCH
from tests.unit.manager.swarm_fixture import SWARM, FakeConnection, Swarm, identity

NODE = "node000000000000000000000"
DAY = 86_400.0


class FakeCredentials:
    def __init__(self, root: bytes, events: list[str]) -> None:
        self.root = root
        self.events = events
        self.pair: tuple[bytes, bytes] | None = None

    def replace(self, *, certificate: bytes, key: bytes, root: bytes) -> None:
        self.events.append("replace")
        self.pair = (certificate, key)
        self.root = root


class Member:
    """A node of a swarm with its first certificate, and everything its renewal touches."""

    def __init__(self, role: Role = Role.WORKER, *, seed: int = 1, expiry_s: float = 90 * DAY) -> None:
        self.swarm = Swarm()
        self.swarm.add_node(NODE, role)
        self.events: list[str] = []
        self.announced: list[Subject] = []
        self.saved: tuple[bytes, bytes] | None = None
        self.save_failures = 0
        self.unreachable = 0
        self.connections: list[bool] = []
        key, csr = new_key_and_csr()
        certificate = self.swarm.authority.sign(
            csr, node_id=NODE, role=role, swarm_id=SWARM, now=EPOCH, expiry_s=expiry_s
        )
        self.credentials = FakeCredentials(self.swarm.root, self.events)
        self.renewal = Renewal(
            certificate=certificate,
            key=key,
            connect=self.connect,
            save=self.save,
            credentials=self.credentials,
            renewed=self.renewed,
            now=lambda: EPOCH + trio.current_time(),
            rng=random.Random(seed),
        )

    @asynccontextmanager
    async def connect(self, *, anonymous: bool) -> AsyncIterator[CallConnection]:
        await trio.lowlevel.checkpoint()
        self.connections.append(anonymous)
        if self.unreachable:
            self.unreachable -= 1
            raise Unavailable("nobody there")
        # Any manager checks dates in the handshake: an expired certificate shows no identity.
        is_valid = EPOCH + trio.current_time() < self.renewal.subject.not_after
        who = None if anonymous or not is_valid else identity(NODE, self.renewal.subject.role)
        yield FakeConnection(self.swarm, Caller(identity=who, address="192.0.2.8:1"))

    async def save(self, certificate: bytes, key: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if self.save_failures:
            self.save_failures -= 1
            raise StorageFailed("disk full")
        self.events.append("save")
        self.saved = (certificate, key)

    def renewed(self, subject: Subject) -> None:
        self.events.append("renewed")
        self.announced.append(subject)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.renewal.run)
            yield
            nursery.cancel_scope.cancel()

    def give_role(self, role: Role) -> Node:
        """What the role manager does; the node as a session message would show it."""
        node = self.swarm.node(NODE)
        self.swarm.store.write(lambda tx: tx.update(msgspec.structs.replace(node, role=role)))
        return self.swarm.node(NODE)


async def test_nothing_happens_in_the_first_half_of_life(autojump_clock: MockClock) -> None:
    member = Member()
    async with member.running():
        await trio.sleep(44.9 * DAY)
    assert member.connections == []


@pytest.mark.parametrize("seed", range(5))
async def test_a_certificate_is_renewed_before_80_percent_of_its_life(autojump_clock: MockClock, seed: int) -> None:
    member = Member(seed=seed)
    async with member.running():
        await trio.sleep(72.1 * DAY)
    assert member.events == ["save", "replace", "renewed"]
    assert member.saved == member.credentials.pair
    assert member.saved is not None
    certificate, key = member.saved
    subject = verify_issued(certificate, root=member.swarm.root, key=key, now=EPOCH + trio.current_time())
    assert subject == member.announced[0] == member.renewal.subject
    assert 135 * DAY < subject.not_after - EPOCH < 163 * DAY
    assert member.connections == [False]


async def test_it_goes_on_renewing(autojump_clock: MockClock) -> None:
    member = Member()
    async with member.running():
        await trio.sleep(200 * DAY)
    assert 2 <= len(member.announced) <= 4


@pytest.mark.parametrize(("was", "becomes"), [(Role.WORKER, Role.MANAGER), (Role.MANAGER, Role.WORKER)])
async def test_a_new_role_is_fetched_at_once(autojump_clock: MockClock, was: Role, becomes: Role) -> None:
    member = Member(was)
    async with member.running():
        await trio.sleep(1)
        member.renewal.observe(member.give_role(becomes))
        await trio.sleep(0.5)
        assert [subject.role for subject in member.announced] == [becomes]
        member.renewal.observe(member.swarm.node(NODE))
        await trio.sleep(100)
    assert len(member.announced) == 1


async def test_a_wish_that_the_managers_have_not_granted_yet_asks_for_nothing(autojump_clock: MockClock) -> None:
    member = Member(Role.MANAGER)
    async with member.running():
        node = member.swarm.node(NODE)
        wished = msgspec.structs.replace(node, spec=msgspec.structs.replace(node.spec, desired_role=Role.WORKER))
        member.renewal.observe(wished)
        await trio.sleep(100)
    assert member.connections == []


async def test_another_role_than_expected_is_kept_in_use_and_not_announced(autojump_clock: MockClock) -> None:
    member = Member()
    async with member.running():
        member.renewal.expect(Role.MANAGER)
        await trio.sleep(5)
        assert member.announced == []
        assert member.events[:2] == ["save", "replace"]
        assert read_subject(member.saved[0]).role is Role.WORKER  # type: ignore[index]
        member.give_role(Role.MANAGER)
        await trio.sleep(300)
    assert [subject.role for subject in member.announced] == [Role.MANAGER]


async def test_a_wish_taken_back_ends_the_trying(autojump_clock: MockClock) -> None:
    member = Member()
    async with member.running():
        member.renewal.expect(Role.MANAGER)
        await trio.sleep(3)
        member.renewal.expect(Role.WORKER)
        await trio.sleep(5)
        tried = len(member.connections)
        await trio.sleep(1000)
        assert len(member.connections) == tried


async def test_rotate_in_a_session_message_forces_a_renewal(autojump_clock: MockClock) -> None:
    member = Member()
    async with member.running():
        await trio.sleep(1)
        node = member.swarm.node(NODE)
        certificate = msgspec.structs.replace(node.certificate, state=IssuanceState.ROTATE)
        member.renewal.observe(msgspec.structs.replace(node, certificate=certificate))
        await trio.sleep(1)
    assert len(member.announced) == 1


async def test_failures_are_tried_again_with_growing_pauses(autojump_clock: MockClock) -> None:
    member = Member()
    member.unreachable = 20
    async with member.running():
        member.renewal.force()
        await trio.sleep(20)
        assert 4 <= len(member.connections) <= 12
        await trio.sleep(2 * 3600)
    assert len(member.announced) == 1


async def test_every_try_asks_with_the_same_request(autojump_clock: MockClock) -> None:
    member = Member()
    member.swarm.lose_replies = {"ca.issue"}
    async with member.running():
        member.renewal.force()
        await trio.sleep(30)
    assert len(member.announced) == 1
    assert len([command for command in member.swarm.store.commands if command.actor == f"node:{NODE}"]) == 1


async def test_a_pair_that_cannot_be_saved_is_not_used(autojump_clock: MockClock) -> None:
    member = Member()
    member.save_failures = 2
    async with member.running():
        member.renewal.force()
        await trio.sleep(0.05)
        assert member.events == []
        await trio.sleep(30)
    assert member.events == ["save", "replace", "renewed"]


async def test_a_certificate_that_expired_while_nobody_answered_is_renewed_by_its_key(
    autojump_clock: MockClock,
) -> None:
    member = Member(expiry_s=3600)
    member.unreachable = 10**9
    async with member.running():
        await trio.sleep(2 * 3600)
        assert member.connections[-1] is True
        member.unreachable = 0
        await trio.sleep(600)
    assert len(member.announced) == 1
    assert member.announced[0].node_id == NODE


async def test_a_certificate_for_another_node_is_refused(autojump_clock: MockClock) -> None:
    member = Member()
    member.swarm.add_node("other00000000000000000000")

    @asynccontextmanager
    async def as_another(*, anonymous: bool) -> AsyncIterator[CallConnection]:
        await trio.lowlevel.checkpoint()
        member.connections.append(anonymous)
        caller = Caller(identity=identity("other00000000000000000000"))
        yield FakeConnection(member.swarm, caller)

    member.renewal._connect = as_another
    async with member.running():
        member.renewal.force()
        await trio.sleep(10)
    assert member.connections
    assert member.events == []


def test_a_certificate_that_is_none_is_refused() -> None:
    member = Member()
    with pytest.raises(Invalid):
        Renewal(
            certificate=b"rubbish",
            key=b"",
            connect=member.connect,
            save=member.save,
            credentials=member.credentials,
            renewed=member.renewed,
            now=lambda: EPOCH,
            rng=random.Random(1),
        )
