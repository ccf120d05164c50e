"""Requests that an external CA signs: recorded at the door, signed by the leader, looked at before they count."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from swarmd.errors import FailedPrecondition, SwarmError, Unavailable
from swarmd.manager.loops import SignerLoop
from swarmd.manager.loops.signer import RETRY_S
from swarmd.model import ExternalCA, IssuanceState, Membership, Node, Role, RootCA
from swarmd.pki import Authority, NewRoot, begin_rotation, cross_sign, new_key_and_csr, own_root, verify_issued
from swarmd.wire import ca
from swarmd.wire.identity import Caller
from swarmd.wire.methods import CA_STATUS
from tests.unit.manager.local_store import EPOCH
from tests.unit.manager.loops.rotating import Rotating
from tests.unit.manager.swarm_fixture import SWARM, call_of, identity

JOINER = Caller(address="192.0.2.7:1")
DAY = 86_400.0


class FakeSigners:
    """Signs with `authority`, after `before` had its say. `failures` are used up one by one."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.failures: list[SwarmError] = []
        self.asked: list[str] = []
        self.before: Callable[[], None] = lambda: None
        self.changes: dict[str, Any] = {}
        self.seconds = 0.0

    async def sign(
        self, root: RootCA, signers: tuple[ExternalCA, ...], *, csr: bytes, node_id: str, role: Role, swarm_id: str
    ) -> bytes:
        self.asked.append(node_id)
        await trio.sleep(self.seconds)
        if self.failures:
            raise self.failures.pop(0)
        asked = {"csr": csr, "node_id": node_id, "role": role, "swarm_id": swarm_id} | self.changes
        made = self.authority.sign(asked.pop("csr"), **asked, now=EPOCH + trio.current_time(), expiry_s=DAY)
        before, self.before = self.before, lambda: None
        before()
        return made


class External(Rotating):
    """Its root's key is an external CA's."""

    def __init__(self) -> None:
        super().__init__(1)
        self.signers = FakeSigners(self.authority)
        self.change(lambda cluster: replace(cluster, root_ca=replace(cluster.root_ca, key=b"")))

    async def join(self, csr: bytes) -> str:
        request = ca.IssueRequest(csr=csr, token=self.tokens.worker)
        return (await self.server.issue(call_of(JOINER), request)).node_id

    async def status(self, node_id: str, csr: bytes) -> ca.StatusReply:
        request = ca.StatusRequest(node_id=node_id, csr_sha256=hashlib.sha256(csr).digest())
        return await self.server.status(call_of(JOINER, timeout_s=5, method=CA_STATUS), request)

    @asynccontextmanager
    async def signing(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(SignerLoop(self.store, self.signers, now=self.store.now, rng=random.Random(1)).run)
            yield
            nursery.cancel_scope.cancel()


@pytest.fixture
def swarm() -> External:
    return External()


async def test_a_joiner_waits_at_the_door_and_gets_the_external_cas_certificate(
    swarm: External, autojump_clock: MockClock
) -> None:
    key, csr = new_key_and_csr()
    id = await swarm.join(csr)
    assert swarm.node(id).certificate.state is IssuanceState.PENDING
    assert (await swarm.status(id, csr)).state is IssuanceState.PENDING
    async with swarm.signing():
        reply = await swarm.status(id, csr)
    assert reply.state is IssuanceState.ISSUED
    subject = verify_issued(reply.certificate, root=swarm.root, key=key, now=swarm.store.now())
    assert (subject.node_id, subject.role, subject.swarm_id) == (id, Role.WORKER, SWARM)
    assert swarm.node(id).certificate.expires_at == subject.not_after
    assert swarm.signers.asked == [id]


async def test_asking_again_meanwhile_finds_the_same_node_and_asks_nobody_twice(
    swarm: External, autojump_clock: MockClock
) -> None:
    _, csr = new_key_and_csr()
    swarm.signers.seconds = 3
    async with swarm.signing():
        assert await swarm.join(csr) == await swarm.join(csr)
        await trio.sleep(5)
        assert len(swarm.signers.asked) == 1


async def test_a_renewal_keeps_the_old_certificate_in_the_record_until_the_new_one_is_there(
    swarm: External, autojump_clock: MockClock
) -> None:
    (id,) = swarm.ids
    _, first = new_key_and_csr()
    _, second = new_key_and_csr()
    caller = Caller(identity=identity(id))
    async with swarm.signing():
        await swarm.server.issue(call_of(caller), ca.IssueRequest(csr=first))
        await trio.sleep(1)
    issued = swarm.node(id).certificate
    assert issued.state is IssuanceState.ISSUED
    await swarm.server.issue(call_of(caller), ca.IssueRequest(csr=second))
    waits = swarm.node(id).certificate
    assert (waits.state, waits.csr, waits.certificate) == (IssuanceState.RENEW, second, issued.certificate)
    assert waits.expires_at == issued.expires_at
    assert (await swarm.status(id, second)).certificate == b""  # it is not for this request
    async with swarm.signing():
        assert (await swarm.status(id, second)).state is IssuanceState.ISSUED


async def test_a_demoted_managers_certificate_stays_a_managers_in_the_record_until_it_is_replaced(
    swarm: External, autojump_clock: MockClock
) -> None:
    (id,) = swarm.ids
    caller = Caller(identity=identity(id))
    _, first = new_key_and_csr()
    async with swarm.signing():
        await swarm.server.issue(call_of(caller), ca.IssueRequest(csr=first))
        await trio.sleep(1)
    assert swarm.node(id).certificate.role is Role.MANAGER
    swarm.change_node(id, lambda node: replace(node, role=Role.WORKER))
    key, second = new_key_and_csr()
    for _ in range(2):  # asking again changes nothing
        await swarm.server.issue(call_of(caller), ca.IssueRequest(csr=second))
        assert (swarm.node(id).certificate.role, swarm.node(id).certificate.state) == (
            Role.MANAGER,
            IssuanceState.RENEW,
        )
    async with swarm.signing():
        await trio.sleep(1)
    record = swarm.node(id).certificate
    assert (record.role, record.state) == (Role.WORKER, IssuanceState.ISSUED)
    subject = verify_issued(record.certificate, root=swarm.root, key=key, now=swarm.store.now())
    assert subject.role is Role.WORKER


async def test_one_that_waits_to_be_let_in_is_signed_for_once_it_is(swarm: External, autojump_clock: MockClock) -> None:
    _, csr = new_key_and_csr()
    id = (await swarm.server.issue(call_of(JOINER), ca.IssueRequest(csr=csr))).node_id
    async with swarm.signing():
        await trio.sleep(60)
        assert swarm.signers.asked == []
        swarm.change_node(id, lambda node: replace(node, spec=replace(node.spec, membership=Membership.ACCEPTED)))
        await trio.sleep(1)
    assert swarm.node(id).certificate.state is IssuanceState.ISSUED


async def test_what_fails_in_passing_is_tried_again_every_ten_seconds(
    swarm: External, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    _, csr = new_key_and_csr()
    id = await swarm.join(csr)
    swarm.signers.failures = [Unavailable("it is down")] * 3
    async with swarm.signing():
        await trio.sleep(3 * RETRY_S - 1)
        assert len(swarm.signers.asked) == 3
        assert swarm.node(id).certificate.state is IssuanceState.PENDING
        await trio.sleep(2)
    assert swarm.node(id).certificate.state is IssuanceState.ISSUED
    assert [record.getMessage().count("it is down") for record in caplog.records if "waits" in record.message] == [1]


async def test_a_refusal_is_the_end_of_the_request_and_the_node_is_told_why(
    swarm: External, autojump_clock: MockClock
) -> None:
    _, csr = new_key_and_csr()
    swarm.signers.failures = [FailedPrecondition("the external CA refused: not on Sundays")]
    async with swarm.signing():
        id = await swarm.join(csr)
        reply = await swarm.status(id, csr)
        assert (reply.state, reply.error) == (IssuanceState.FAILED, "the external CA refused: not on Sundays")
        await trio.sleep(60)
        assert len(swarm.signers.asked) == 1
        assert await swarm.join(csr) == id  # a joiner of ours asks with the same request: nothing has changed
        assert len(swarm.signers.asked) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"csr": new_key_and_csr()[1]},
        {"node_id": "m" * 25},
        {"role": Role.MANAGER},
        {"swarm_id": "another"},
    ],
)
async def test_a_certificate_that_was_not_asked_for_is_never_stored(
    swarm: External, changes: dict[str, Any], autojump_clock: MockClock
) -> None:
    swarm.signers.changes = changes
    _, csr = new_key_and_csr()
    async with swarm.signing():
        id = await swarm.join(csr)
        await trio.sleep(2 * RETRY_S + 1)
        assert swarm.node(id).certificate.state is IssuanceState.PENDING
        assert swarm.node(id).certificate.certificate == b""
        assert len(swarm.signers.asked) == 3
        swarm.signers.changes = {}  # it was set right
        await trio.sleep(RETRY_S)
        assert swarm.node(id).certificate.state is IssuanceState.ISSUED


async def test_a_certificate_of_another_root_is_never_stored(swarm: External, autojump_clock: MockClock) -> None:
    swarm.signers.authority = Authority.create(EPOCH)
    _, csr = new_key_and_csr()
    async with swarm.signing():
        id = await swarm.join(csr)
        await trio.sleep(RETRY_S + 1)
    assert swarm.node(id).certificate.certificate == b""


async def test_the_answer_to_an_older_request_is_not_stored_beside_a_newer_one(
    swarm: External, autojump_clock: MockClock
) -> None:
    (id,) = swarm.ids
    _, old = new_key_and_csr()
    new_key, new = new_key_and_csr()

    def replace_request() -> None:
        def newer(node: Node) -> Node:
            return replace(node, certificate=replace(node.certificate, csr=new))

        swarm.change_node(id, newer)

    swarm.signers.before = replace_request
    async with swarm.signing():
        await swarm.server.issue(call_of(Caller(identity=identity(id))), ca.IssueRequest(csr=old))
        await trio.sleep(5)
    record = swarm.node(id).certificate
    assert (record.state, record.csr) == (IssuanceState.ISSUED, new)
    verify_issued(record.certificate, root=swarm.root, key=new_key, now=swarm.store.now())
    assert len(swarm.signers.asked) == 2


async def test_an_answer_of_a_root_that_signs_no_more_is_not_stored(swarm: External, autojump_clock: MockClock) -> None:
    """A rotation to a root of the swarm's own began while the external CA was thinking."""
    (id,) = swarm.ids
    key, csr = new_key_and_csr()
    new = own_root(EPOCH)

    def rotate() -> None:
        crossed = cross_sign(replace(swarm.root_ca, key=swarm.authority.key), new)
        swarm.change(
            lambda cluster: replace(
                cluster,
                root_ca=begin_rotation(cluster.root_ca, new, cross_signed=crossed, force_rotate=1, now=EPOCH),
            )
        )

    swarm.signers.before = rotate
    async with swarm.signing():
        await swarm.server.issue(call_of(Caller(identity=identity(id))), ca.IssueRequest(csr=csr))
        await trio.sleep(5)
    record = swarm.node(id).certificate
    assert record.state is IssuanceState.ISSUED
    verify_issued(record.certificate, root=new.certificate, key=key, now=swarm.store.now())
    assert swarm.root_ca.rotation is not None
    assert record.certificate.endswith(swarm.root_ca.rotation.cross_signed)


async def test_what_waits_is_signed_at_once_when_the_swarm_gets_the_key(
    swarm: External, autojump_clock: MockClock
) -> None:
    _, csr = new_key_and_csr()
    swarm.signers.failures = [Unavailable("it is down")] * 99
    async with swarm.signing():
        id = await swarm.join(csr)
        await trio.sleep(1)
        swarm.change(lambda cluster: replace(cluster, root_ca=replace(cluster.root_ca, key=swarm.authority.key)))
        await trio.sleep(RETRY_S + 1)
    assert swarm.node(id).certificate.state is IssuanceState.ISSUED
    assert len(swarm.signers.asked) == 1


async def test_a_node_that_is_only_told_to_ask_is_not_signed_for(swarm: External, autojump_clock: MockClock) -> None:
    (id,) = swarm.ids
    _, csr = new_key_and_csr()
    async with swarm.signing():
        await swarm.server.issue(call_of(Caller(identity=identity(id))), ca.IssueRequest(csr=csr))
        await trio.sleep(1)
        issued = swarm.node(id).certificate
        told = replace(issued, state=IssuanceState.ROTATE)
        swarm.change_node(id, lambda node: replace(node, certificate=told))
        await trio.sleep(60)
    assert swarm.node(id).certificate == told
    assert len(swarm.signers.asked) == 1
    assert (await swarm.status(id, csr)).certificate == issued.certificate  # it holds


async def test_what_the_swarm_signs_itself_is_signed_at_the_door_with_the_chain_of_a_rotation(
    autojump_clock: MockClock,
) -> None:
    swarm = Rotating(1)
    new: NewRoot = swarm.begin()
    key, csr = new_key_and_csr()
    request = ca.IssueRequest(csr=csr, token=swarm.tokens.worker)
    id = (await swarm.server.issue(call_of(JOINER), request)).node_id
    certificate = swarm.node(id).certificate.certificate
    rotation = swarm.root_ca.rotation
    assert rotation is not None
    assert certificate.count(b"BEGIN CERTIFICATE") == 2
    assert certificate.endswith(rotation.cross_signed)
    verify_issued(certificate, root=new.certificate, key=key, now=swarm.store.now())


async def test_a_new_lifetime_of_certificates_counts_at_once(autojump_clock: MockClock) -> None:
    swarm = Rotating(1)
    for expiry_s in (3600.0, 7200.0):
        swarm.change_ca(node_cert_expiry_s=expiry_s)
        await swarm.renew(swarm.ids[0])
        assert swarm.node(swarm.ids[0]).certificate.expires_at == int(swarm.store.now()) + expiry_s
