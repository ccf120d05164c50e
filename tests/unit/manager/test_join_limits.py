"""Joins are limited: by the second, and by how many nodes there are (reference security 8, row 34)."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from trio.testing import MockClock

from swarmd.errors import PermissionDenied, ResourceExhausted
from swarmd.manager import join_limits
from swarmd.manager.ca_server import CAServer
from swarmd.manager.join_limits import JOINS_BURST, JOINS_PER_S, NODES_MAX, RETRY_AFTER_S_MAX, JoinRate, check_nodes
from swarmd.model import Membership
from swarmd.node.enrolment import Enrolment
from swarmd.pki import new_key_and_csr, new_token, root_digest
from swarmd.transport.listener import Listener
from swarmd.wire import ca
from swarmd.wire.frames import error_body, error_from_body
from swarmd.wire.identity import Caller
from tests.unit.manager.swarm_fixture import Swarm, call_of, identity
from tests.unit.node.test_enrolment import Network, enrolment

JOINER = Caller(address="192.0.2.7:40123")


# -- the bucket -----------------------------------------------------------------------------------------------------


def is_let_in(rate: JoinRate, now: float) -> bool:
    try:
        rate.take(now)
    except ResourceExhausted:
        return False
    return True


def test_a_burst_is_let_in_and_then_so_many_a_second() -> None:
    rate = JoinRate()
    assert sum(is_let_in(rate, 1000.0) for _ in range(10_000)) == JOINS_BURST
    assert sum(is_let_in(rate, 1000.0 + tenth / 10) for tenth in range(1, 101) for _ in range(50)) == 10 * JOINS_PER_S
    assert sum(is_let_in(rate, 2000.0) for _ in range(10_000)) == JOINS_BURST, "a quiet time is worth no more"


@given(
    st.lists(st.floats(0, 5), min_size=1, max_size=200),
    st.floats(0.5, 100),
    st.integers(1, 20),
)
def test_no_stretch_of_time_lets_more_in_than_its_share(pauses: list[float], per_s: float, burst: int) -> None:
    rate, now, let_in = JoinRate(per_s, burst), 0.0, list[float]()
    for pause in pauses:
        now += pause
        if is_let_in(rate, now):
            let_in.append(now)
    for first in range(len(let_in)):
        for last in range(first, len(let_in)):
            assert last - first + 1 <= burst + per_s * (let_in[last] - let_in[first]) + 1e-6


def test_a_crowd_is_told_to_come_back_at_the_rate_at_which_it_is_let_in() -> None:
    rate = JoinRate(per_s=10.0, burst=5)
    waits = []
    for _ in range(205):
        try:
            rate.take(50.0)
        except ResourceExhausted as error:
            waits.append(error.retry_after_s or 0.0)
    assert waits == pytest.approx([0.1 * place for place in range(1, 201)])
    assert all(is_let_in(rate, 50.0 + wait + 1e-9) for wait in waits), "and each then finds a place"


def test_nobody_is_sent_away_for_longer_than_a_minute() -> None:
    rate = JoinRate(per_s=1.0, burst=1)
    rate.take(0.0)
    for _ in range(1000):
        with pytest.raises(ResourceExhausted) as refused:
            rate.take(0.0)
    assert refused.value.retry_after_s == RETRY_AFTER_S_MAX


def test_without_a_limit_all_are_let_in() -> None:
    rate = JoinRate(math.inf)
    assert all(is_let_in(rate, 0.0) for _ in range(2 * JOINS_BURST))


def test_when_to_come_again_travels_and_nonsense_does_not() -> None:
    body = error_body(ResourceExhausted("too many", retry_after_s=2.5))
    assert error_from_body(body).retry_after_s == 2.5
    for nonsense in (0.0, -1.0, math.nan, math.inf):
        assert error_from_body(replace(body, retry_after_s=nonsense)).retry_after_s is None


# -- at the door ------------------------------------------------------------------------------------------------------


def limited(swarm: Swarm, *, burst: int, per_s: float = 1.0) -> Swarm:
    swarm.server = CAServer(swarm.store, local_root=lambda: swarm.root, join_rate=JoinRate(per_s, burst))
    return swarm


async def join(swarm: Swarm, csr: bytes = b"", caller: Caller = JOINER, **request: str) -> str:
    csr = csr or new_key_and_csr()[1]
    return (await swarm.server.issue(call_of(caller), ca.IssueRequest(csr=csr, **request))).node_id  # type: ignore[arg-type]


def records(swarm: Swarm) -> int:
    return len(list(swarm.store.state.nodes()))


async def test_one_too_many_makes_no_record_and_is_told_when_to_come_again(autojump_clock: MockClock) -> None:
    swarm = limited(Swarm(), burst=2)
    for _ in range(2):
        await join(swarm, token=swarm.tokens.worker)
    before = swarm.store.state.index
    with pytest.raises(ResourceExhausted, match="more than 1 nodes a second") as refused:
        await join(swarm, token=swarm.tokens.manager)
    assert refused.value.retry_after_s == pytest.approx(1.0)
    assert swarm.tokens.manager not in f"{refused.value.message} {refused.value.hint}"
    assert (records(swarm), swarm.store.state.index) == (2, before)
    await trio.sleep(1.0)
    await join(swarm, token=swarm.tokens.worker)


async def test_a_wrong_token_costs_the_swarm_no_place(autojump_clock: MockClock) -> None:
    swarm = limited(Swarm(), burst=1)
    wrong = new_token(root_digest(swarm.root), random.Random(9))
    for number in range(50):
        with pytest.raises(PermissionDenied):
            await join(swarm, caller=Caller(address=f"192.0.2.{number}:1"), token=wrong)
    await join(swarm, token=swarm.tokens.worker)


async def test_asking_again_with_one_request_is_one_join(autojump_clock: MockClock) -> None:
    swarm = limited(Swarm(), burst=1)
    _, csr = new_key_and_csr()
    nodes = {await join(swarm, csr, token=swarm.tokens.worker) for _ in range(5)}
    assert len(nodes) == 1


async def test_a_transaction_that_runs_again_is_one_join(autojump_clock: MockClock) -> None:
    swarm = limited(Swarm(), burst=3)
    swarm.store.latency_s = 0.01
    async with trio.open_nursery() as nursery:  # they meet in the log: all read the cluster and some run again
        for _ in range(3):
            nursery.start_soon(lambda: join(swarm, token=swarm.tokens.worker))
        await trio.sleep(0.005)
        swarm.change_ca(node_cert_expiry_s=7200.0)
    assert records(swarm) == 3


async def test_renewals_are_not_counted(autojump_clock: MockClock) -> None:
    swarm = limited(Swarm(), burst=1)
    node_id = await join(swarm, token=swarm.tokens.worker)
    caller = Caller(identity=identity(node_id), address="192.0.2.8:1")
    for _ in range(5):
        assert await join(swarm, caller=caller) == node_id


async def test_those_who_wait_without_a_token_take_no_place_of_those_with_one(autojump_clock: MockClock) -> None:
    swarm = limited(Swarm(), burst=1)
    refusals = Counter[str]()
    for number in range(100):
        try:
            await join(swarm, caller=Caller(address=f"192.0.2.{number}:1"))
        except ResourceExhausted as error:
            refusals[error.message] += 1
    assert refusals == {"10 nodes wait to be accepted already": 90}
    assert sum(node.spec.membership is Membership.PENDING for node in swarm.store.state.nodes()) == 10
    await join(swarm, token=swarm.tokens.worker)


async def test_a_full_swarm_takes_nobody(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join_limits, "NODES_MAX", 3)
    swarm = Swarm()
    await join(swarm)
    for _ in range(2):
        await join(swarm, token=swarm.tokens.worker)
    for request in ({"token": swarm.tokens.worker}, {}):
        with pytest.raises(ResourceExhausted, match="3 nodes") as refused:
            await join(swarm, **request)
        assert refused.value.retry_after_s is None, "waiting does not help"


def test_a_swarm_has_as_many_nodes_as_a_manager_has_connections() -> None:
    check_nodes(NODES_MAX - 1)
    with pytest.raises(ResourceExhausted, match="are the most it takes"):
        check_nodes(NODES_MAX)
    assert (Listener.__init__.__kwdefaults__ or {})["connections_max"] == NODES_MAX


# -- who joins --------------------------------------------------------------------------------------------------------


async def test_a_crowd_of_joiners_all_get_in_at_the_rate_of_the_limit(autojump_clock: MockClock) -> None:
    swarm = limited(Swarm(), burst=10, per_s=10.0)
    network = Network(m1=swarm)
    crowd = [
        Enrolment(
            ("m1",), swarm.tokens.worker, dial=network.dial, now=swarm.store.now, rng=random.Random(number)
        )
        for number in range(110)
    ]  # fmt: skip
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for one in crowd:
            nursery.start_soon(one.run)
    took_s = trio.current_time() - began
    assert records(swarm) == 110
    assert 10.0 <= took_s <= 20.0
    assert len(network.dialed) < 5 * 110, "they do not storm the door meanwhile"


async def test_a_refusal_without_a_time_is_final(autojump_clock: MockClock) -> None:
    swarm = Swarm()
    swarm.failures["ca.issue"] = [ResourceExhausted("too many wrong join tokens from 192.0.2.7")]
    with pytest.raises(ResourceExhausted):
        await enrolment(Network(m1=swarm), swarm.tokens.worker).run()


async def test_no_manager_makes_a_joiner_wait_for_ever(autojump_clock: MockClock) -> None:
    swarm = Swarm()
    swarm.failures["ca.issue"] = [ResourceExhausted("come again", retry_after_s=1e9)]
    began = trio.current_time()
    await enrolment(Network(m1=swarm), swarm.tokens.worker).run()
    assert RETRY_AFTER_S_MAX <= trio.current_time() - began <= 1.25 * RETRY_AFTER_S_MAX
