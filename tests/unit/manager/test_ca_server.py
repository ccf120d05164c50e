"""The CA's doors: who gets which certificate, who is refused, and who waits."""

import hashlib

import msgspec
import pytest
import trio
from trio.testing import MockClock

from swarmd.errors import (
    Conflict,
    FailedPrecondition,
    Invalid,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from swarmd.manager.ca_server import CAServer
from swarmd.model import (
    Availability,
    IssuanceState,
    JoinTokens,
    Membership,
    Node,
    NodeCertificate,
    NodeState,
    RemovedNode,
    Role,
    TokenlessJoin,
)
from swarmd.pki import Authority, new_key_and_csr, read_subject, sign_renewal, verify_issued
from swarmd.state.command import Table
from swarmd.state.transaction import Transaction
from swarmd.wire import ca
from swarmd.wire.identity import Caller
from swarmd.wire.methods import CA_STATUS
from tests.unit.manager.local_store import EPOCH, LocalStore
from tests.unit.manager.swarm_fixture import SWARM, Swarm, call_of, identity

JOINER = Caller(address="192.0.2.7:40123")
NODE = "node000000000000000000000"
DAY = 86_400.0


@pytest.fixture
def swarm() -> Swarm:
    return Swarm()


async def issue(swarm: Swarm, request: ca.IssueRequest, caller: Caller = JOINER) -> str:
    return (await swarm.server.issue(call_of(caller), request)).node_id


async def status(swarm: Swarm, node_id: str, csr: bytes, *, timeout_s: float = 5.0) -> ca.StatusReply:
    request = ca.StatusRequest(node_id=node_id, csr_sha256=hashlib.sha256(csr).digest())
    return await swarm.server.status(call_of(JOINER, timeout_s=timeout_s, method=CA_STATUS), request)


def with_certificate(node_id: str = NODE, role: Role = Role.WORKER, *, swarm_id: str = SWARM) -> Caller:
    return Caller(identity=identity(node_id, role, swarm_id=swarm_id), address="192.0.2.8:1")


# -- root --------------------------------------------------------------------------------------------------------


async def test_the_root_is_the_states_byte_for_byte(swarm: Swarm, autojump_clock: MockClock) -> None:
    assert (await swarm.server.root(call_of(JOINER), ca.RootRequest())).certificate == swarm.root


async def test_before_there_is_a_cluster_the_local_root_is_served(autojump_clock: MockClock) -> None:
    server = CAServer(LocalStore(), local_root=lambda: b"local")
    assert (await server.root(call_of(JOINER), ca.RootRequest())).certificate == b"local"


async def test_before_there_is_a_cluster_nothing_is_issued(autojump_clock: MockClock) -> None:
    server = CAServer(LocalStore(), local_root=lambda: b"local")
    _, csr = new_key_and_csr()
    with pytest.raises(Unavailable):
        await server.issue(call_of(JOINER), ca.IssueRequest(csr=csr, token="x"))


# -- joining with a token ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", list(Role))
async def test_the_token_decides_the_role(swarm: Swarm, role: Role, autojump_clock: MockClock) -> None:
    key, csr = new_key_and_csr()
    token = swarm.tokens.manager if role is Role.MANAGER else swarm.tokens.worker
    node_id = await issue(swarm, ca.IssueRequest(csr=csr, token=token, availability=Availability.DRAIN))
    node = swarm.node(node_id)
    assert (node.role, node.spec.desired_role) == (role, role)
    assert node.spec.membership is Membership.ACCEPTED
    assert node.spec.availability is Availability.DRAIN
    assert node.status.state is NodeState.UNKNOWN
    reply = await status(swarm, node_id, csr)
    assert (reply.state, reply.role) == (IssuanceState.ISSUED, role)
    subject = verify_issued(reply.certificate, root=swarm.root, key=key, now=swarm.store.now())
    assert (subject.node_id, subject.role, subject.swarm_id) == (node_id, role, SWARM)
    assert subject.not_after == node.certificate.expires_at == int(swarm.store.now()) + 90 * DAY


async def test_a_join_is_written_as_anonymous_and_in_one_entry(swarm: Swarm, autojump_clock: MockClock) -> None:
    _, csr = new_key_and_csr()
    before = swarm.store.state.index
    await issue(swarm, ca.IssueRequest(csr=csr, token=swarm.tokens.worker))
    assert swarm.store.state.index == before + 1
    assert swarm.store.commands[-1].actor == "anonymous"


async def test_asking_again_with_the_same_request_gives_the_same_node(swarm: Swarm, autojump_clock: MockClock) -> None:
    _, csr = new_key_and_csr()
    request = ca.IssueRequest(csr=csr, token=swarm.tokens.worker)
    assert await issue(swarm, request) == await issue(swarm, request)
    assert len(list(swarm.store.state.nodes())) == 1


async def test_a_request_used_for_one_role_is_refused_for_another(swarm: Swarm, autojump_clock: MockClock) -> None:
    _, csr = new_key_and_csr()
    await issue(swarm, ca.IssueRequest(csr=csr, token=swarm.tokens.worker))
    with pytest.raises(Invalid):
        await issue(swarm, ca.IssueRequest(csr=csr, token=swarm.tokens.manager))


async def test_a_wrong_token_is_refused_with_a_hint_and_leaves_nothing(swarm: Swarm, autojump_clock: MockClock) -> None:
    _, csr = new_key_and_csr()
    wrong = swarm.tokens.worker[:-4] + "0000"
    with pytest.raises(PermissionDenied) as refused:
        await issue(swarm, ca.IssueRequest(csr=csr, token=wrong))
    assert refused.value.hint
    assert wrong not in str(refused.value)
    assert list(swarm.store.state.nodes()) == []


async def test_a_malformed_token_is_invalid(swarm: Swarm, autojump_clock: MockClock) -> None:
    _, csr = new_key_and_csr()
    with pytest.raises(Invalid):
        await issue(swarm, ca.IssueRequest(csr=csr, token="SWMTKN-9-hello"))


# -- waiting -------------------------------------------------------------------------------------------------------


async def test_without_a_token_there_is_a_record_and_no_certificate(swarm: Swarm, autojump_clock: MockClock) -> None:
    _, csr = new_key_and_csr()
    id = await issue(swarm, ca.IssueRequest(csr=csr, hostname="web-1"))
    node = swarm.node(id)
    assert node.spec.membership is Membership.PENDING
    assert (node.description.hostname, node.status.addr) == ("web-1", "192.0.2.7")
    assert node.certificate == NodeCertificate(csr=csr, state=IssuanceState.PENDING)
    assert (await status(swarm, id, csr)).state is IssuanceState.PENDING
    assert await issue(swarm, ca.IssueRequest(csr=csr)) == id


@pytest.mark.parametrize("hostname", ["", "a b", "x" * 64, "-a", "\x1b[31m", "a\nb"])
async def test_a_name_that_is_none_is_left_out(swarm: Swarm, hostname: str, autojump_clock: MockClock) -> None:
    for token in ("", swarm.tokens.worker):
        _, csr = new_key_and_csr()
        id = await issue(swarm, ca.IssueRequest(csr=csr, token=token, hostname=hostname))
        assert swarm.node(id).description.hostname == ""


async def test_ten_may_wait_and_the_eleventh_is_told(swarm: Swarm, autojump_clock: MockClock) -> None:
    ids = [await issue(swarm, ca.IssueRequest(csr=new_key_and_csr()[1])) for _ in range(10)]
    with pytest.raises(ResourceExhausted) as refused:
        await issue(swarm, ca.IssueRequest(csr=new_key_and_csr()[1]))
    assert "accept or reject" in (refused.value.hint or "")
    swarm.reject(ids[0])
    await issue(swarm, ca.IssueRequest(csr=new_key_and_csr()[1]))


async def test_a_swarm_may_let_nobody_wait(swarm: Swarm, autojump_clock: MockClock) -> None:
    swarm.change_ca(tokenless_join=TokenlessJoin.DENY)
    with pytest.raises(PermissionDenied) as refused:
        await issue(swarm, ca.IssueRequest(csr=new_key_and_csr()[1]))
    assert "--join-token" in (refused.value.hint or "")


async def test_nobody_waits_while_a_manager_does_not_know_how(swarm: Swarm, autojump_clock: MockClock) -> None:
    def fn(tx: Transaction) -> None:
        cluster = tx.cluster()
        assert cluster is not None
        tx.update(msgspec.structs.replace(cluster, feature_level=("base.1",)))

    swarm.store.write(fn)
    with pytest.raises(FailedPrecondition, match="not all managers"):
        await issue(swarm, ca.IssueRequest(csr=new_key_and_csr()[1]))


async def test_one_that_was_turned_away_is_told(swarm: Swarm, autojump_clock: MockClock) -> None:
    _, csr = new_key_and_csr()
    id = await issue(swarm, ca.IssueRequest(csr=csr))
    swarm.reject(id)
    with pytest.raises(PermissionDenied, match="turned this node away"):
        await status(swarm, id, csr)


@pytest.mark.parametrize("csr", [b"", b"garbage", b"x" * 100_000])
async def test_a_bad_request_makes_no_record(swarm: Swarm, csr: bytes, autojump_clock: MockClock) -> None:
    with pytest.raises(Invalid):
        await issue(swarm, ca.IssueRequest(csr=csr, token=swarm.tokens.worker))
    assert list(swarm.store.state.nodes()) == []


async def test_a_rotated_token_is_refused_at_once(swarm: Swarm, autojump_clock: MockClock) -> None:
    cluster = swarm.store.state.cluster()
    assert cluster is not None
    root = msgspec.structs.replace(cluster.root_ca, join_tokens=JoinTokens(worker="w", manager="m"))
    swarm.store.write(lambda tx: tx.update(msgspec.structs.replace(cluster, root_ca=root)))
    _, csr = new_key_and_csr()
    with pytest.raises(PermissionDenied):
        await issue(swarm, ca.IssueRequest(csr=csr, token=swarm.tokens.worker))


async def test_a_token_rotated_while_the_join_is_on_its_way_is_refused(swarm: Swarm, autojump_clock: MockClock) -> None:
    swarm.store.latency_s = 1.0
    _, csr = new_key_and_csr()

    async def rotate() -> None:
        await trio.sleep(0.5)
        cluster = swarm.store.state.cluster()
        assert cluster is not None
        root = msgspec.structs.replace(cluster.root_ca, join_tokens=JoinTokens(worker="w", manager="m"))
        swarm.store.write(lambda tx: tx.update(msgspec.structs.replace(cluster, root_ca=root)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(rotate)
        with pytest.raises(PermissionDenied):
            await issue(swarm, ca.IssueRequest(csr=csr, token=swarm.tokens.worker))
    assert list(swarm.store.state.nodes()) == []


async def test_the_sixth_wrong_token_of_an_address_waits_a_minute_even_if_it_were_right(
    swarm: Swarm, autojump_clock: MockClock
) -> None:
    _, csr = new_key_and_csr()
    wrong = ca.IssueRequest(csr=csr, token=swarm.tokens.worker[:-4] + "0000")
    right = ca.IssueRequest(csr=csr, token=swarm.tokens.worker)
    for port in range(5):
        with pytest.raises(PermissionDenied):
            await issue(swarm, wrong, Caller(address=f"192.0.2.7:{port}"))
    with pytest.raises(ResourceExhausted) as refused:
        await issue(swarm, right)
    assert "60 s" in (refused.value.hint or "")
    await issue(swarm, right, Caller(address="192.0.2.9:1"))
    await trio.sleep(60)
    assert await issue(swarm, right)


# -- renewal -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", list(Role))
async def test_a_verified_certificate_renews_with_the_stored_role(
    swarm: Swarm, stored: Role, autojump_clock: MockClock
) -> None:
    swarm.add_node(NODE, stored)
    key, csr = new_key_and_csr()
    presented = with_certificate(role=Role.MANAGER if stored is Role.WORKER else Role.WORKER)
    assert await issue(swarm, ca.IssueRequest(csr=csr), presented) == NODE
    reply = await status(swarm, NODE, csr)
    subject = verify_issued(reply.certificate, root=swarm.root, key=key, now=swarm.store.now())
    assert (subject.node_id, subject.role) == (NODE, stored)
    assert swarm.store.commands[-1].actor == f"node:{NODE}"


async def test_a_certificate_wins_over_a_token(swarm: Swarm, autojump_clock: MockClock) -> None:
    swarm.add_node(NODE)
    _, csr = new_key_and_csr()
    request = ca.IssueRequest(csr=csr, token=swarm.tokens.manager)
    assert await issue(swarm, request, with_certificate()) == NODE
    assert read_subject((await status(swarm, NODE, csr)).certificate).role is Role.WORKER


async def test_renewing_twice_with_one_request_signs_once(swarm: Swarm, autojump_clock: MockClock) -> None:
    swarm.add_node(NODE)
    _, csr = new_key_and_csr()
    await issue(swarm, ca.IssueRequest(csr=csr), with_certificate())
    index = swarm.store.state.index
    await issue(swarm, ca.IssueRequest(csr=csr), with_certificate())
    assert swarm.store.state.index == index


async def test_a_new_role_signs_the_same_request_anew(swarm: Swarm, autojump_clock: MockClock) -> None:
    node = swarm.add_node(NODE)
    _, csr = new_key_and_csr()
    await issue(swarm, ca.IssueRequest(csr=csr), with_certificate())
    node = swarm.node(NODE)
    swarm.store.write(lambda tx: tx.update(msgspec.structs.replace(node, role=Role.MANAGER)))
    await issue(swarm, ca.IssueRequest(csr=csr), with_certificate())
    assert read_subject((await status(swarm, NODE, csr)).certificate).role is Role.MANAGER


async def test_the_expiry_of_the_cluster_holds_at_the_next_renewal(swarm: Swarm, autojump_clock: MockClock) -> None:
    cluster = swarm.store.state.cluster()
    assert cluster is not None
    spec = msgspec.structs.replace(cluster.spec, ca=msgspec.structs.replace(cluster.spec.ca, node_cert_expiry_s=3600.0))
    swarm.store.write(lambda tx: tx.update(msgspec.structs.replace(cluster, spec=spec)))
    swarm.add_node(NODE)
    _, csr = new_key_and_csr()
    await issue(swarm, ca.IssueRequest(csr=csr), with_certificate())
    assert swarm.node(NODE).certificate.expires_at == int(swarm.store.now()) + 3600


async def test_a_node_that_is_not_there_cannot_renew(swarm: Swarm, autojump_clock: MockClock) -> None:
    _, csr = new_key_and_csr()
    with pytest.raises(NotFound):
        await issue(swarm, ca.IssueRequest(csr=csr), with_certificate())


async def test_a_removed_node_cannot_renew(swarm: Swarm, autojump_clock: MockClock) -> None:
    swarm.store.create(RemovedNode(id=NODE))
    _, csr = new_key_and_csr()
    with pytest.raises(PermissionDenied, match="removed"):
        await issue(swarm, ca.IssueRequest(csr=csr), with_certificate())


async def test_a_certificate_of_another_swarm_counts_as_none(swarm: Swarm, autojump_clock: MockClock) -> None:
    swarm.add_node(NODE)
    _, csr = new_key_and_csr()
    foreign = with_certificate(swarm_id="another")
    with pytest.raises(Unauthenticated):
        await issue(swarm, ca.IssueRequest(csr=csr), foreign)
    joined = await issue(swarm, ca.IssueRequest(csr=csr, token=swarm.tokens.worker), foreign)
    assert joined != NODE


async def test_another_nodes_request_cannot_be_replayed(swarm: Swarm, autojump_clock: MockClock) -> None:
    swarm.add_node(NODE)
    swarm.add_node("other00000000000000000000")
    _, csr = new_key_and_csr()
    await issue(swarm, ca.IssueRequest(csr=csr), with_certificate())
    with pytest.raises(Invalid):
        await issue(swarm, ca.IssueRequest(csr=csr), with_certificate("other00000000000000000000"))


# -- renewal with an expired certificate ---------------------------------------------------------------------------


async def expired_node(swarm: Swarm) -> tuple[str, bytes, bytes]:
    """A node, its certificate that has expired since, and its key."""
    key, csr = new_key_and_csr()
    node_id = await issue(swarm, ca.IssueRequest(csr=csr, token=swarm.tokens.worker))
    certificate = (await status(swarm, node_id, csr)).certificate
    await trio.sleep(91 * DAY)
    return node_id, certificate, key


async def test_an_expired_node_renews_by_a_signature_of_its_known_key(swarm: Swarm, autojump_clock: MockClock) -> None:
    node_id, certificate, old_key = await expired_node(swarm)
    key, csr = new_key_and_csr()
    request = ca.IssueRequest(csr=csr, renewal_certificate=certificate, renewal_signature=sign_renewal(old_key, csr))
    assert await issue(swarm, request) == node_id
    reply = await status(swarm, node_id, csr)
    verify_issued(reply.certificate, root=swarm.root, key=key, now=swarm.store.now())


async def test_a_certificate_without_its_key_opens_nothing(swarm: Swarm, autojump_clock: MockClock) -> None:
    _, certificate, _ = await expired_node(swarm)
    thief, csr = new_key_and_csr()
    request = ca.IssueRequest(csr=csr, renewal_certificate=certificate, renewal_signature=sign_renewal(thief, csr))
    for _ in range(5):
        with pytest.raises(PermissionDenied):
            await issue(swarm, request)
    with pytest.raises(ResourceExhausted):
        await issue(swarm, request)


async def test_a_key_that_was_replaced_opens_nothing(swarm: Swarm, autojump_clock: MockClock) -> None:
    node_id, certificate, old_key = await expired_node(swarm)
    _, newer = new_key_and_csr()
    await issue(swarm, ca.IssueRequest(csr=newer), with_certificate(node_id))
    _, csr = new_key_and_csr()
    request = ca.IssueRequest(csr=csr, renewal_certificate=certificate, renewal_signature=sign_renewal(old_key, csr))
    with pytest.raises(PermissionDenied, match="newer key"):
        await issue(swarm, request)


async def test_an_expired_certificate_of_a_removed_node_opens_nothing(swarm: Swarm, autojump_clock: MockClock) -> None:
    node_id, certificate, old_key = await expired_node(swarm)

    def remove(tx: Transaction) -> None:
        tx.remove(Table.NODE, node_id)
        tx.create(RemovedNode(id=node_id))

    swarm.store.write(remove)
    _, csr = new_key_and_csr()
    request = ca.IssueRequest(csr=csr, renewal_certificate=certificate, renewal_signature=sign_renewal(old_key, csr))
    with pytest.raises(PermissionDenied, match="removed"):
        await issue(swarm, request)


async def test_an_expired_certificate_of_another_authority_opens_nothing(
    swarm: Swarm, autojump_clock: MockClock
) -> None:
    swarm.add_node(NODE)
    key, old_csr = new_key_and_csr()
    foreign = Authority.create(EPOCH).sign(
        old_csr, node_id=NODE, role=Role.MANAGER, swarm_id=SWARM, now=EPOCH, expiry_s=3600
    )
    _, csr = new_key_and_csr()
    request = ca.IssueRequest(csr=csr, renewal_certificate=foreign, renewal_signature=sign_renewal(key, csr))
    with pytest.raises(PermissionDenied):
        await issue(swarm, request)


# -- status --------------------------------------------------------------------------------------------------------


def undecided(csr: bytes, state: IssuanceState = IssuanceState.PENDING) -> Node:
    return Node(id=NODE, certificate=NodeCertificate(csr=csr, state=state))


async def test_status_waits_until_the_request_is_decided(swarm: Swarm, autojump_clock: MockClock) -> None:
    _, csr = new_key_and_csr()
    swarm.store.create(undecided(csr))

    async def decide_later() -> None:
        await trio.sleep(2)
        certificate = NodeCertificate(csr=csr, state=IssuanceState.FAILED, error="because")
        swarm.store.write(lambda tx: tx.update(msgspec.structs.replace(swarm.node(NODE), certificate=certificate)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(decide_later)
        reply = await status(swarm, NODE, csr, timeout_s=10)
    assert (reply.state, reply.error) == (IssuanceState.FAILED, "because")
    assert trio.current_time() == pytest.approx(2)


@pytest.mark.parametrize(("timeout_s", "waited_s"), [(5.0, 4.75), (float("inf"), 30.0)])
async def test_an_undecided_request_is_answered_before_the_deadline(
    swarm: Swarm, timeout_s: float, waited_s: float, autojump_clock: MockClock
) -> None:
    _, csr = new_key_and_csr()
    swarm.store.create(undecided(csr))
    began = trio.current_time()
    assert (await status(swarm, NODE, csr, timeout_s=timeout_s)).state is IssuanceState.PENDING
    assert trio.current_time() - began == pytest.approx(waited_s)


async def test_status_of_an_unknown_node_is_not_found(swarm: Swarm, autojump_clock: MockClock) -> None:
    with pytest.raises(NotFound):
        await status(swarm, NODE, b"csr")


async def test_a_request_that_was_replaced_is_told_so(swarm: Swarm, autojump_clock: MockClock) -> None:
    _, csr = new_key_and_csr()
    swarm.store.create(undecided(csr))
    with pytest.raises(Conflict):
        await status(swarm, NODE, b"another csr")


async def test_a_node_removed_while_its_request_waits_ends_the_wait(swarm: Swarm, autojump_clock: MockClock) -> None:
    _, csr = new_key_and_csr()
    swarm.store.create(undecided(csr))

    async def remove_later() -> None:
        await trio.sleep(1)
        swarm.store.write(lambda tx: tx.remove(Table.NODE, NODE))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(remove_later)
        with pytest.raises(NotFound):
            await status(swarm, NODE, csr)
