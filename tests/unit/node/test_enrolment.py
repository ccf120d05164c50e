"""Joining: nothing is sent before the root is proved, what is temporary is tried again, what is refused ends it."""

import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from swarmd.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Invalid,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from swarmd.model import Availability, IssuanceState, Role
from swarmd.node.enrolment import Dial, Enrolment, JoiningConnection
from swarmd.pki import Authority, new_key_and_csr, new_token, root_digest, verify_issued
from swarmd.wire import ca
from swarmd.wire.identity import Caller
from swarmd.wire.methods import CA_ISSUE, CA_ROOT, CA_STATUS
from tests.unit.manager.local_store import EPOCH
from tests.unit.manager.swarm_fixture import SWARM, FakeConnection, Swarm

JOINER = Caller(address="192.0.2.7:40123")


class Network:
    """Managers by address; everything else refuses connections. Remembers what was dialed under which root."""

    def __init__(self, **managers: Swarm) -> None:
        self.managers = managers
        self.dialed: list[tuple[str, bytes | None]] = []
        self.refusals = 0
        """How many further dials fail."""
        self.refused_under: set[bytes] = set()
        """Roots under which TLS would refuse who answers."""

    @property
    def dial(self) -> Dial:
        return self._dial

    @asynccontextmanager
    async def _dial(self, address: str, root: bytes | None) -> AsyncIterator[JoiningConnection]:
        await trio.lowlevel.checkpoint()
        self.dialed.append((address, root))
        if self.refusals or address not in self.managers:
            self.refusals = max(0, self.refusals - 1)
            raise Unavailable(f"cannot connect to {address}: connection refused")
        if root in self.refused_under:
            raise Unavailable(f"{address} is no manager of this swarm")
        yield FakeConnection(self.managers[address], JOINER)


def enrolment(network: Network, token: str, *addresses: str, root: bytes | None = None) -> Enrolment:
    return Enrolment(
        addresses or ("m1",),
        token,
        dial=network.dial,
        now=lambda: EPOCH + trio.current_time(),
        rng=random.Random(1),
        availability=Availability.PAUSE,
        root=root,
    )


@pytest.mark.parametrize("role", list(Role))
async def test_a_token_becomes_an_identity(autojump_clock: MockClock, role: Role) -> None:
    swarm = Swarm()
    network = Network(m1=swarm)
    token = swarm.tokens.manager if role is Role.MANAGER else swarm.tokens.worker
    enrolled = await enrolment(network, token).run()
    assert enrolled.root == swarm.root
    assert (enrolled.subject.role, enrolled.subject.swarm_id) == (role, SWARM)
    subject = verify_issued(enrolled.certificate, root=swarm.root, key=enrolled.key, now=EPOCH)
    assert subject == enrolled.subject
    assert swarm.node(subject.node_id).spec.availability is Availability.PAUSE
    assert network.dialed == [("m1", None)], "one connection is all it takes"
    assert swarm.log == ["ca.root", "ca.issue"], "what is made at once comes at once"


async def test_whoever_only_passes_the_root_on_is_sent_nothing(autojump_clock: MockClock) -> None:
    """Somebody in between shows the true root, which is no secret, and a certificate of its own: what is sent goes over
    a connection that the root vouches for, or not at all."""
    swarm, between = Swarm(), Swarm()
    between.root, between.server = swarm.root, swarm.server
    network = Network(m1=between)
    network.refused_under = {swarm.root}
    with pytest.raises(Unavailable, match="no manager of this swarm"):
        await enrolment(network, swarm.tokens.worker).run()
    assert set(between.log) == {"ca.root"}
    assert network.dialed[:2] == [("m1", None), ("m1", swarm.root)]


@pytest.mark.parametrize("wrong", ["worker", "expired", "not yet", "garbage", "nothing"])
async def test_only_a_manager_in_date_is_asked_at_once(autojump_clock: MockClock, wrong: str) -> None:
    swarm = Swarm()
    _, csr = new_key_and_csr()
    role = Role.WORKER if wrong == "worker" else Role.MANAGER
    signed_at = {"expired": EPOCH - 90_000, "not yet": EPOCH + 90_000}.get(wrong, EPOCH)
    leaf = swarm.authority.sign(csr, node_id="x", role=role, swarm_id=SWARM, now=signed_at, expiry_s=86_400.0)
    swarm.leaf = {"garbage": b"x" * 100, "nothing": b""}.get(wrong, ssl.PEM_cert_to_DER_cert(leaf.decode()))
    network = Network(m1=swarm)
    await enrolment(network, swarm.tokens.worker).run()
    assert network.dialed == [("m1", None), ("m1", swarm.root)], "TLS itself judges it, as before"


async def test_a_known_root_is_not_fetched_again(autojump_clock: MockClock) -> None:
    swarm = Swarm()
    network = Network(m1=swarm)
    await enrolment(network, swarm.tokens.worker, root=swarm.root).run()
    assert network.dialed == [("m1", swarm.root)]


async def test_a_known_root_that_is_not_the_tokens_is_refused_before_any_dial(autojump_clock: MockClock) -> None:
    with pytest.raises(Invalid):
        enrolment(Network(), Swarm().tokens.worker, root=Swarm().root)


async def test_a_manager_that_shows_another_root_is_sent_nothing(autojump_clock: MockClock) -> None:
    swarm, impostor = Swarm(), Swarm()
    network = Network(m1=impostor)
    with pytest.raises(PermissionDenied, match="fingerprint"):
        await enrolment(network, swarm.tokens.worker).run()
    assert impostor.log == ["ca.root"]
    assert len(network.dialed) == 1


async def test_a_root_with_something_appended_is_refused(autojump_clock: MockClock) -> None:
    swarm = Swarm()
    digest = root_digest(swarm.root + Authority.create(EPOCH).certificate)
    with pytest.raises(PermissionDenied):
        await enrolment(Network(m1=swarm), new_token(digest, random.Random(1))).run()


@pytest.mark.parametrize("token", ["", "hello", "SWMTKN-9-x-y"])
async def test_a_malformed_token_is_refused_before_any_dial(autojump_clock: MockClock, token: str) -> None:
    with pytest.raises(Invalid):
        enrolment(Network(), token)


async def test_a_wrong_secret_ends_it_at_once(autojump_clock: MockClock) -> None:
    swarm = Swarm()
    with pytest.raises(PermissionDenied) as refused:
        await enrolment(Network(m1=swarm), swarm.tokens.worker[:-4] + "0000").run()
    assert refused.value.hint
    assert trio.current_time() == 0
    assert swarm.log.count("ca.issue") == 1


async def test_an_unreachable_manager_is_tried_5_times_2_seconds_apart(autojump_clock: MockClock) -> None:
    network = Network()
    with pytest.raises(Unavailable, match="connection refused") as refused:
        await enrolment(network, Swarm().tokens.worker, "m1").run()
    assert "--join-addr" in (refused.value.hint or "")
    assert len(network.dialed) == 5
    assert trio.current_time() == 8


async def test_the_next_address_is_asked_at_once(autojump_clock: MockClock) -> None:
    swarm = Swarm()
    await enrolment(Network(m2=swarm), swarm.tokens.worker, "m1", "m2").run()
    assert trio.current_time() == 0


async def test_a_manager_that_comes_up_meanwhile_is_joined(autojump_clock: MockClock) -> None:
    swarm = Swarm()
    network = Network(m1=swarm)
    network.refusals = 3
    await enrolment(network, swarm.tokens.worker).run()
    assert trio.current_time() == 6


@pytest.mark.parametrize("method", [CA_ROOT, CA_ISSUE, CA_STATUS])
async def test_a_leader_that_is_missing_for_a_moment_is_waited_for(autojump_clock: MockClock, method: object) -> None:
    swarm = Swarm()
    swarm.failures = {method.name: [Unavailable("no leader"), DeadlineExceeded("slow")]}  # type: ignore[attr-defined]
    await enrolment(Network(m1=swarm), swarm.tokens.worker).run()
    assert len(list(swarm.store.state.nodes())) == 1


async def test_a_lost_reply_makes_no_second_node(autojump_clock: MockClock) -> None:
    swarm = Swarm()
    swarm.lose_replies = {"ca.issue"}
    enrolled = await enrolment(Network(m1=swarm), swarm.tokens.worker).run()
    assert [node.id for node in swarm.store.state.nodes()] == [enrolled.subject.node_id]


async def test_too_many_wrong_tokens_end_it_with_the_servers_words(autojump_clock: MockClock) -> None:
    swarm = Swarm()
    swarm.failures = {"ca.issue": [ResourceExhausted("too many wrong join tokens from 192.0.2.7")]}
    with pytest.raises(ResourceExhausted, match="too many"):
        await enrolment(Network(m1=swarm), swarm.tokens.worker).run()


class Undecided(Swarm):
    """Answers status as told, then as it is."""

    def __init__(self, *replies: ca.StatusReply) -> None:
        super().__init__()
        self.replies = list(replies)

    async def call(self, method, request, caller, *, timeout_s=5.0):  # type: ignore[no-untyped-def]
        if method is CA_STATUS and self.replies:
            self.log.append(method.name)
            await trio.lowlevel.checkpoint()
            return self.replies[0] if len(self.replies) == 1 else self.replies.pop(0)
        reply = await super().call(method, request, caller, timeout_s=timeout_s)
        return ca.IssueReply(node_id=reply.node_id) if method is CA_ISSUE else reply


async def test_a_failed_request_ends_it_with_the_servers_reason(autojump_clock: MockClock) -> None:
    swarm = Undecided(ca.StatusReply(state=IssuanceState.FAILED, error="no room"))
    with pytest.raises(FailedPrecondition, match="no room"):
        await enrolment(Network(m1=swarm), swarm.tokens.worker).run()
    assert swarm.log == ["ca.root", "ca.issue", "ca.status"]


async def test_a_request_that_is_never_decided_is_given_up_without_a_busy_loop(autojump_clock: MockClock) -> None:
    swarm = Undecided(ca.StatusReply(state=IssuanceState.PENDING))
    with pytest.raises(Unavailable, match="not decided"):
        await enrolment(Network(m1=swarm), swarm.tokens.worker).run()
    assert trio.current_time() == pytest.approx(5 * 120 + 4 * 2)
    assert swarm.log.count("ca.status") < 5 * 40


async def test_a_certificate_that_is_not_ours_is_refused(autojump_clock: MockClock) -> None:
    other = Swarm()
    stolen = await enrolment(Network(m1=other), other.tokens.worker).run()
    swarm = Undecided(ca.StatusReply(state=IssuanceState.ISSUED, certificate=stolen.certificate))
    with pytest.raises(Invalid, match="not issued by this swarm"):
        await enrolment(Network(m1=swarm), swarm.tokens.worker).run()
