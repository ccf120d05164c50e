"""What an operator is told of a rotation under way."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from trio.testing import MockClock

from swarmd.manager.root_progress import WAITING_SHOWN_MAX, is_converged, progress, was_issued
from swarmd.model import IssuanceState, Node, NodeState
from swarmd.pki import fingerprint
from swarmd.wire.cluster import RotationProgress
from tests.unit.manager.local_store import EPOCH
from tests.unit.manager.loops.rotating import Rotating


def told(swarm: Rotating) -> RotationProgress:
    rotation = swarm.root_ca.rotation
    assert rotation is not None
    return progress(swarm.store.state.nodes(), rotation)


async def test_it_counts_who_was_seen_and_says_of_the_others_why_not(autojump_clock: MockClock) -> None:
    swarm = Rotating(6)
    seen, issued, asked, waits, down, failed = swarm.ids
    swarm.let_wait("w" * 25)
    new = swarm.begin()

    def in_state(id: str, state: IssuanceState, error: str = "") -> None:
        swarm.change_node(
            id, lambda node: replace(node, certificate=replace(node.certificate, state=state, error=error))
        )

    await swarm.renew(seen)
    swarm.see(seen)
    await swarm.renew(issued)
    in_state(asked, IssuanceState.ROTATE)
    in_state(waits, IssuanceState.RENEW)
    swarm.set_state(down, NodeState.DOWN)
    in_state(failed, IssuanceState.FAILED, "not on Sundays")
    view = told(swarm)
    assert (view.done, view.total, view.started_at) == (1, 6, EPOCH)
    assert view.fingerprint == fingerprint(new.certificate)
    assert {node.node_id: node.reason for node in view.waiting} == {
        issued: "has its new certificate, was not seen with it yet",
        asked: "was told, has not asked yet",
        waits: "its request waits for the external CA",
        down: "down",
        failed: "it was refused a certificate: not on Sundays",
    }


async def test_only_some_of_many_are_named(autojump_clock: MockClock) -> None:
    swarm = Rotating(50)
    swarm.begin()
    view = told(swarm)
    assert (view.done, view.total, len(view.waiting)) == (0, 50, WAITING_SHOWN_MAX)
    assert view.waiting[0].reason == "has not been told yet"


@pytest.mark.parametrize("state", list(IssuanceState))
async def test_a_record_counts_only_while_it_is_issued_by_this_very_rotation(
    state: IssuanceState, autojump_clock: MockClock
) -> None:
    swarm = Rotating(1)
    (id,) = swarm.ids
    swarm.begin()
    await swarm.renew(id)
    swarm.see(id)
    rotation = swarm.root_ca.rotation
    assert rotation is not None
    node: Node = swarm.node(id)
    node = replace(node, certificate=replace(node.certificate, state=state))
    assert was_issued(node, rotation) == (state is IssuanceState.ISSUED)
    target = fingerprint(rotation.certificate)
    assert is_converged(node, rotation, target) == (state is IssuanceState.ISSUED)
    assert not is_converged(replace(node, status=replace(node.status, issuer="0" * 64)), rotation, target)
    swarm.begin()
    other = swarm.root_ca.rotation
    assert other is not None
    assert not was_issued(node, other)
