"""A rotation carried through: in batches, past nodes that are down, by whoever leads (reference security 4.3, 9)."""

from __future__ import annotations

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from swarmd.errors import PermissionDenied
from swarmd.manager.loops.root_rotation import BATCH, RETELL_S, TICK_S, finish
from swarmd.model import IssuanceState, JoinTokens, NodeState
from swarmd.pki import new_key_and_csr, own_root, root_digest
from swarmd.wire import ca
from swarmd.wire.identity import Caller
from tests.unit.manager.local_store import EPOCH
from tests.unit.manager.loops.rotating import Rotating
from tests.unit.manager.swarm_fixture import call_of

ROTATE = IssuanceState.ROTATE


async def test_without_a_rotation_nothing_is_written(autojump_clock: MockClock) -> None:
    swarm = Rotating()
    before = swarm.store.state.index
    async with swarm.led():
        await trio.sleep(60)
    assert swarm.store.state.index == before


async def test_thirty_nodes_are_told_at_once_and_thirty_more_every_three_seconds(autojump_clock: MockClock) -> None:
    swarm = Rotating(70)
    async with swarm.led():
        swarm.begin()
        await trio.sleep(0.01)
        assert swarm.in_state(ROTATE) == swarm.ids[:BATCH]
        await trio.sleep(TICK_S - 0.1)
        assert len(swarm.in_state(ROTATE)) == BATCH == 30
        await trio.sleep(0.2)
        assert len(swarm.in_state(ROTATE)) == 60
        await trio.sleep(TICK_S)
        assert swarm.in_state(ROTATE) == swarm.ids
        index = swarm.store.state.index
        await trio.sleep(60)  # everybody was told: nothing more to say
        assert swarm.store.state.index == index


async def test_when_all_were_seen_anew_the_new_root_is_the_swarms_with_new_tokens(autojump_clock: MockClock) -> None:
    swarm = Rotating(40)
    old = swarm.root_ca
    async with swarm.led():
        new = swarm.begin()
        await swarm.followed(seconds=12)
        root = swarm.root_ca
    assert (root.certificate, root.key, root.rotation) == (new.certificate, new.key, None)
    assert root.digest == root_digest(new.certificate)
    assert root.last_forced_rotation == 1
    for role in ("worker", "manager"):
        token = getattr(root.join_tokens, role)
        assert token != getattr(old.join_tokens, role)
        assert root.digest in token
    assert root.join_tokens.worker != root.join_tokens.manager
    assert swarm.in_state(IssuanceState.ISSUED) == swarm.ids


async def test_an_old_token_is_refused_after_a_rotation_and_taken_during_it(autojump_clock: MockClock) -> None:
    swarm = Rotating(1)
    joiner = Caller(address="192.0.2.1:1")
    async with swarm.led():
        swarm.begin()
        made = await _join(swarm, joiner, swarm.tokens.worker)
        assert swarm.root_ca.rotation is not None
        swarm.see(made)
        await swarm.followed(seconds=9)
        assert swarm.root_ca.rotation is None
        with pytest.raises(PermissionDenied):
            await _join(swarm, joiner, swarm.tokens.worker)
        assert await _join(swarm, joiner, swarm.root_ca.join_tokens.worker)


async def _join(swarm: Rotating, caller: Caller, token: str) -> str:
    _, csr = new_key_and_csr()
    return (await swarm.server.issue(call_of(caller), ca.IssueRequest(csr=csr, token=token))).node_id


async def test_what_was_seen_and_what_was_issued_count_only_together(autojump_clock: MockClock) -> None:
    swarm = Rotating(2)
    first, second = swarm.ids
    async with swarm.led():
        swarm.begin()
        await trio.sleep(0.01)
        swarm.see(first)  # with a certificate of the new root that we did not issue to it
        await swarm.renew(second)  # and is not seen with it
        await trio.sleep(20)
        assert swarm.root_ca.rotation is not None
        await swarm.renew(first)
        await trio.sleep(20)
        assert swarm.root_ca.rotation is not None
        swarm.see(second)
        await trio.sleep(4)
        assert swarm.root_ca.rotation is None


async def test_a_node_that_is_down_is_waited_for_and_removing_it_ends_the_wait(autojump_clock: MockClock) -> None:
    swarm = Rotating(4)
    gone = swarm.ids[2]
    swarm.set_state(gone, NodeState.DOWN)
    async with swarm.led():
        new = swarm.begin()
        await swarm.followed(but=(gone,), seconds=600)
        assert swarm.root_ca.rotation is not None
        assert swarm.node(gone).certificate.state is ROTATE
        swarm.remove(gone)
        await trio.sleep(TICK_S + 0.1)
        assert swarm.root_ca.certificate == new.certificate


async def test_a_node_that_comes_back_late_ends_the_wait_too(autojump_clock: MockClock) -> None:
    swarm = Rotating(3)
    late = swarm.ids[1]
    async with swarm.led():
        new = swarm.begin()
        await swarm.followed(but=(late,), seconds=300)
        await swarm.followed(seconds=5)
        assert swarm.root_ca.certificate == new.certificate


async def test_a_node_that_was_not_let_in_is_not_waited_for(autojump_clock: MockClock) -> None:
    swarm = Rotating(2)
    swarm.let_wait("w".ljust(25, "w"))
    async with swarm.led():
        new = swarm.begin()
        await swarm.followed(seconds=6)
        assert swarm.root_ca.certificate == new.certificate
    assert swarm.in_state(IssuanceState.PENDING) == ["w" * 25]


async def test_one_that_joins_meanwhile_is_waited_for_until_it_was_seen(autojump_clock: MockClock) -> None:
    swarm = Rotating(2)
    async with swarm.led():
        swarm.begin()
        joined = await _join(swarm, Caller(address="192.0.2.1:1"), swarm.tokens.worker)
        await swarm.followed(seconds=20)
        assert swarm.root_ca.rotation is not None
        assert swarm.node(joined).certificate.state is IssuanceState.ISSUED
        swarm.see(joined)
        await trio.sleep(TICK_S + 0.1)
        assert swarm.root_ca.rotation is None


async def test_a_request_that_failed_is_asked_for_again(autojump_clock: MockClock) -> None:
    swarm = Rotating(1)
    failed = swarm.ids[0]
    swarm.change_node(
        failed, lambda node: replace(node, certificate=replace(node.certificate, state=IssuanceState.FAILED))
    )
    async with swarm.led():
        swarm.begin()
        await trio.sleep(0.01)
        assert swarm.in_state(ROTATE) == [failed]


async def test_a_node_that_lost_what_it_was_issued_is_told_again(autojump_clock: MockClock) -> None:
    swarm = Rotating(1)
    (id,) = swarm.ids
    async with swarm.led():
        swarm.begin()
        await trio.sleep(0.01)
        await swarm.renew(id)
        swarm.set_state(id, NodeState.READY)
        await trio.sleep(RETELL_S - TICK_S)
        assert swarm.node(id).certificate.state is IssuanceState.ISSUED
        await trio.sleep(3 * TICK_S)
        assert swarm.node(id).certificate.state is ROTATE
        await swarm.followed(seconds=4)
        assert swarm.root_ca.rotation is None


async def test_another_rotation_takes_the_place_of_one_under_way_and_all_are_told_again(
    autojump_clock: MockClock,
) -> None:
    swarm = Rotating(5)
    straggler = swarm.ids[4]
    async with swarm.led():
        first = swarm.begin()
        await swarm.followed(but=(straggler,), seconds=8)
        second = swarm.begin()
        await trio.sleep(0.01)
        assert swarm.in_state(ROTATE) == swarm.ids
        await swarm.followed(seconds=8)
        assert swarm.root_ca.certificate == second.certificate != first.certificate


async def test_wanting_the_present_root_ends_a_rotation_and_leaves_those_that_were_told_as_they_are(
    autojump_clock: MockClock,
) -> None:
    swarm = Rotating(3)
    present = swarm.root_ca
    async with swarm.led():
        swarm.begin()
        await trio.sleep(0.01)
        swarm.change(lambda cluster: replace(cluster, root_ca=replace(cluster.root_ca, rotation=None)))
        index = swarm.store.state.index
        await trio.sleep(60)
        assert swarm.store.state.index == index
        assert swarm.in_state(ROTATE) == swarm.ids
        await swarm.follow()  # they renew, from the present root
        assert replace(swarm.root_ca, last_forced_rotation=0) == present


async def test_new_tokens_meanwhile_do_not_stop_it(autojump_clock: MockClock) -> None:
    swarm = Rotating(2)
    async with swarm.led():
        new = swarm.begin()
        await swarm.followed(but=(swarm.ids[0],), seconds=5)
        tokens = JoinTokens(worker="w", manager="m")
        swarm.change(lambda cluster: replace(cluster, root_ca=replace(cluster.root_ca, join_tokens=tokens)))
        await swarm.followed(seconds=5)
        assert swarm.root_ca.certificate == new.certificate
        assert swarm.root_ca.join_tokens != tokens


@pytest.mark.parametrize("steps", range(8))
async def test_the_next_leader_goes_on_wherever_the_last_one_stopped(steps: int, autojump_clock: MockClock) -> None:
    swarm = Rotating(64)
    new = swarm.begin()
    async with swarm.led():
        for _ in range(steps):
            await swarm.follow()
            await trio.sleep(1)
    await swarm.follow()  # while nobody leads
    async with swarm.led():
        await swarm.followed(seconds=12)
    assert swarm.root_ca.certificate == new.certificate


async def test_five_leaders_and_ten_wishes_in_a_row_end_with_the_last(autojump_clock: MockClock) -> None:
    """More than one believes to lead for a moment at every change of leader."""
    swarm = Rotating(10)
    swarm.store.latency_s = 0.01
    async with swarm.led(leaders=5):
        for number in range(10):
            last = swarm.begin(own_root(EPOCH))
            await swarm.followed(seconds=number % 5)
        await swarm.followed(seconds=12)
        assert swarm.root_ca.certificate == last.certificate
        assert swarm.root_ca.rotation is None


async def test_it_does_not_end_what_was_replaced_while_it_looked(autojump_clock: MockClock) -> None:
    swarm = Rotating(1)
    async with swarm.led():
        swarm.begin()
        await trio.sleep(0.01)
    started = swarm.root_ca
    await swarm.follow()
    swarm.begin()
    present = swarm.root_ca
    assert not (await swarm.store.update(lambda tx: finish(tx, started, swarm.store.rng), actor="test"))[0]
    assert swarm.root_ca == present
