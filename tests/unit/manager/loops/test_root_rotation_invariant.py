"""Whatever happens to rotations, every node's certificate holds under the root that the swarm trusts."""

from __future__ import annotations

import trio
from cryptography import x509
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from trio.testing import MockClock

from swarmd.manager.loops.root_rotation import TICK_S
from swarmd.model import NodeState
from swarmd.pki import own_root
from tests.unit.manager.local_store import EPOCH
from tests.unit.manager.loops.rotating import Rotating

ROOTS = [own_root(EPOCH) for _ in range(3)]
STEPS = st.one_of(
    st.tuples(st.sampled_from(["begin"]), st.integers(0, len(ROOTS) - 1)),
    st.tuples(st.sampled_from(["renew", "see", "down"]), st.integers(0, 3)),
    st.tuples(st.sampled_from(["follow", "see all", "call off", "tick", "new leader"]), st.just(0)),
)


def holds(swarm: Rotating, id: str) -> bool:
    """Whether OpenSSL would find a way from the node's leaf to the trusted root."""
    root = x509.load_pem_x509_certificate(swarm.root_ca.certificate)
    leaf, *behind = x509.load_pem_x509_certificates(swarm.node(id).certificate.certificate)
    for issuer in (root, *behind):
        try:
            leaf.verify_directly_issued_by(issuer)
            if issuer is not root:
                issuer.verify_directly_issued_by(root)
        except ValueError:
            continue
        except Exception as error:  # noqa: BLE001 - an InvalidSignature is what is looked for
            assert type(error).__name__ == "InvalidSignature"  # noqa: PT017
            continue
        return True
    return False


async def live(steps: list[tuple[str, int]]) -> None:
    swarm = Rotating(4)
    for id in swarm.ids:
        await swarm.renew(id)
        swarm.see(id)
    waiting = list(steps)
    while waiting:
        async with swarm.led():
            while waiting:
                word, which = waiting.pop(0)
                if word == "new leader":
                    break
                root_before = swarm.root_ca
                await take(swarm, word, which)
                check(swarm, root_before.certificate)
    # However it went, it can be finished.
    last = swarm.begin(own_root(EPOCH))
    async with swarm.led():
        await swarm.followed(seconds=2 * int(TICK_S) + 4)
    assert swarm.root_ca.certificate == last.certificate
    check(swarm, last.certificate)


async def take(swarm: Rotating, word: str, which: int) -> None:
    match word:
        case "begin" if swarm.root_ca.certificate != ROOTS[which].certificate:
            swarm.begin(ROOTS[which])
        case "renew":
            await swarm.renew(swarm.ids[which])
        case "see":
            swarm.see(swarm.ids[which])
        case "see all":  # whether they have renewed or not: a leader that believes too much
            for id in swarm.ids:
                swarm.see(id)
        case "down":
            swarm.set_state(swarm.ids[which], NodeState.DOWN)
        case "follow":
            await swarm.follow()
        case "call off":
            swarm.change(lambda cluster: replace(cluster, root_ca=replace(cluster.root_ca, rotation=None)))
        case _:
            pass
    await trio.sleep(TICK_S if word == "tick" else 0.01)


def check(swarm: Rotating, root_before: bytes) -> None:
    assert all(holds(swarm, id) for id in swarm.ids)
    if swarm.root_ca.certificate != root_before:  # it was ended, so all have followed
        assert swarm.root_ca.rotation is None
        assert swarm.root_ca.digest in swarm.root_ca.join_tokens.worker


@settings(max_examples=60, deadline=None)
@example([("begin", 0), ("see all", 0), ("tick", 0)])
@example([("begin", 0), ("follow", 0), ("begin", 1), ("see all", 0), ("tick", 0), ("call off", 0)])
@given(st.lists(STEPS, max_size=25))
def test_every_certificate_holds_at_every_moment_and_a_rotation_can_always_be_finished(
    steps: list[tuple[str, int]],
) -> None:
    trio.run(live, steps, clock=MockClock(autojump_threshold=0))
