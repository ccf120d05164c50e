"""Joining without a token: the wait, and what it survives."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from swarmd.errors import NotFound, PermissionDenied, Unavailable
from swarmd.manager.certifier import Certifier
from swarmd.model import Membership, TokenlessJoin
from swarmd.node.enrolment import Dial, Enrolled, JoiningConnection
from swarmd.node.waiting import Waiting
from swarmd.pki import join_code
from swarmd.state.transaction import Transaction
from swarmd.storage.join_request import JoinRequestFile
from tests.unit.manager.local_store import EPOCH
from tests.unit.manager.swarm_fixture import Swarm
from tests.unit.node.test_enrolment import Network


class Joiner:
    """A joiner and what it announces. Threads and a mock clock do not mix, so files are read where they stand."""

    def __init__(self, network: Network, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.codes: list[str] = []
        self.network = network
        self.file = JoinRequestFile(path / "join-request.pem")
        self.enrolled: Enrolled | None = None
        monkeypatch.setattr(trio.to_thread, "run_sync", _inline)

    async def run(self) -> None:
        self.enrolled = await Waiting(
            ("m1",),
            self.file,
            dial=self.network.dial,
            announce=self.codes.append,
            now=lambda: EPOCH + trio.current_time(),
            rng=random.Random(1),
            hostname="joiner",
        ).run()

    async def until_waiting(self, swarm: Swarm) -> str:
        """The id of the node that waits."""
        with trio.fail_after(300):
            while not list(swarm.store.state.nodes()):  # noqa: ASYNC110
                await trio.sleep(0.1)  # of virtual time
        [node] = swarm.store.state.nodes()
        return node.id


async def _inline(work: object, *arguments: object, **_: object) -> object:
    await trio.lowlevel.checkpoint()
    return work(*arguments)  # type: ignore[operator]


@pytest.fixture
def swarm() -> Swarm:
    return Swarm()


@pytest.fixture
def joiner(swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Joiner:
    return Joiner(Network(m1=swarm), tmp_path, monkeypatch)


def accept(swarm: Swarm, id: str) -> None:
    def fn(tx: Transaction) -> None:
        node, cluster = tx.node(id), tx.cluster()
        assert node is not None
        assert cluster is not None
        certificate = Certifier().certify(cluster, node.certificate.csr, id, node.role, tx.now)
        tx.update(replace(node, spec=replace(node.spec, membership=Membership.ACCEPTED), certificate=certificate))

    swarm.store.write(fn)


async def test_it_waits_for_hours_and_is_in_once_accepted(
    swarm: Swarm, joiner: Joiner, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(joiner.run)
        id = await joiner.until_waiting(swarm)
        node = swarm.node(id)
        assert node.spec.membership is Membership.PENDING
        assert node.certificate.certificate == b""
        assert node.description.hostname == "joiner"
        await trio.sleep(5 * 3600)
        assert joiner.enrolled is None
        accept(swarm, id)
    assert joiner.enrolled is not None
    assert joiner.enrolled.subject.node_id == id
    assert set(joiner.codes) == {join_code(swarm.root, swarm.node(id).certificate.csr)}
    assert len(list(swarm.store.state.nodes())) == 1


async def test_a_joiner_started_again_is_the_same_one(swarm: Swarm, joiner: Joiner, autojump_clock: MockClock) -> None:
    for _ in range(2):
        with trio.move_on_after(60):
            await joiner.run()
    assert len(set(joiner.codes)) == 1
    [node] = swarm.store.state.nodes()
    accept(swarm, node.id)
    await joiner.run()
    assert joiner.enrolled is not None
    assert joiner.enrolled.subject.node_id == node.id


async def test_managers_that_come_and_go_end_no_wait(swarm: Swarm, joiner: Joiner, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(joiner.run)
        id = await joiner.until_waiting(swarm)
        swarm.failures["ca.status"] = [Unavailable("no leader"), NotFound("a leader that lags")]
        joiner.network.refusals = 50
        await trio.sleep(3600)
        accept(swarm, id)
    assert joiner.enrolled is not None


async def test_nobody_there_at_first_is_told_after_five_tries(
    joiner: Joiner, swarm: Swarm, autojump_clock: MockClock
) -> None:
    joiner.network.refusals = 1000
    with pytest.raises(Unavailable, match="no manager let this node in"):
        await joiner.run()
    assert trio.current_time() < 120
    assert joiner.codes == []


async def test_one_that_is_turned_away_is_told_and_would_ask_as_another(
    swarm: Swarm, joiner: Joiner, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:

        async def refused() -> None:
            with pytest.raises(PermissionDenied, match="turned this node away"):
                await joiner.run()

        nursery.start_soon(refused)
        id = await joiner.until_waiting(swarm)
        swarm.reject(id)
    assert joiner.file.load() is None


async def test_another_root_than_at_first_is_sent_nothing(
    swarm: Swarm, joiner: Joiner, autojump_clock: MockClock
) -> None:
    with trio.move_on_after(60):
        await joiner.run()
    impostor = Swarm()
    joiner.network.managers["m1"] = impostor
    with pytest.raises(PermissionDenied, match="another root certificate"):
        await joiner.run()
    assert impostor.log == ["ca.root"]
    assert joiner.file.load() is not None


async def test_who_stands_in_between_makes_the_codes_differ(
    swarm: Swarm, joiner: Joiner, autojump_clock: MockClock
) -> None:
    impostor = Swarm()
    joiner.network.managers["m1"] = impostor
    with trio.move_on_after(60):
        await joiner.run()
    [stolen] = impostor.store.state.nodes()
    assert joiner.codes[0] != join_code(swarm.root, stolen.certificate.csr)


async def test_a_swarm_that_lets_nobody_wait_says_so(swarm: Swarm, joiner: Joiner, autojump_clock: MockClock) -> None:
    swarm.change_ca(tokenless_join=TokenlessJoin.DENY)
    with pytest.raises(PermissionDenied, match="without a join token"):
        await joiner.run()
    assert not list(swarm.store.state.nodes())


async def test_it_goes_on_over_connections_that_end_after_their_time(
    swarm: Swarm, joiner: Joiner, autojump_clock: MockClock
) -> None:
    """A manager ends connections without a certificate: who waits for days dials again."""
    lives_s, dialed = 7.0, joiner.network.dial

    class ShortLived(Network):
        @property
        def dial(self) -> Dial:
            return self._briefly

        @asynccontextmanager
        async def _briefly(self, address: str, root: bytes | None) -> AsyncIterator[JoiningConnection]:
            async with dialed(address, root) as connection:
                with trio.move_on_after(lives_s) as life:
                    yield connection
            if life.cancelled_caught:
                raise Unavailable("the peer closed the connection")

    joiner.network = ShortLived(m1=swarm)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(joiner.run)
        node_id = await joiner.until_waiting(swarm)
        await trio.sleep(86_400)
        accept(swarm, node_id)
    assert joiner.enrolled is not None
    assert joiner.enrolled.subject.node_id == node_id
    assert len(set(joiner.codes)) == 1, "it is one request all the time"
