"""A connection ends with the certificate that its peer showed, and the log says why (row 36 of the threats)."""

from __future__ import annotations

import logging
import math

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from swarmd.manager.ca_server import STATUS_WAIT_S_MAX
from swarmd.model import Role
from swarmd.node.enrolment import CALL_S_MAX, POLLS_S_MAX
from swarmd.transport.connection import Connection, Router
from swarmd.transport.dialer import dial
from swarmd.transport.expiry import ANONYMOUS_S_MAX, LOOK_AT_CLOCK_S, end_anonymous, end_with_certificate
from swarmd.transport.listener import Listener
from swarmd.wire.frames import HANDSHAKE_S_MAX, Hello
from swarmd.wire.identity import Caller, Identity

from .certificates import SWARM_ID, TestAuthority

AUTHORITY = TestAuthority()
SERVER, CLIENT = AUTHORITY.credentials("m1"), AUTHORITY.credentials("w1", Role.WORKER)
HELLO = Hello(swarm=SWARM_ID)
EPOCH = 1_800_000_000.0


class FakeConnection:
    def __init__(self, *, lives_s: float = math.inf, is_known: bool = True) -> None:
        who = Identity(node_id="w1", role=Role.WORKER, swarm_id="s", not_after=EPOCH + lives_s)
        self.peer = Caller(identity=who if is_known else None, address="192.0.2.1:5")
        self.closed = trio.Event()
        self.reason = ""
        self.ended_at = math.inf

    def abort(self, reason: str) -> None:
        self.reason, self.ended_at = reason, trio.current_time()
        self.closed.set()


class Wall:
    """A wall clock that can be set."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return EPOCH + trio.current_time() + self.ahead_s


async def test_it_ends_at_the_very_end_and_says_why(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    connection = FakeConnection(lives_s=3 * LOOK_AT_CLOCK_S + 5)
    began = trio.current_time()
    with caplog.at_level(logging.WARNING):
        await end_with_certificate(connection, Wall())
    assert connection.ended_at - began == pytest.approx(3 * LOOK_AT_CLOCK_S + 5, abs=1)
    assert connection.reason == (
        "the certificate of node w1 expired at 2027-01-15 11:00:05 UTC, by this machine's clock"
    )
    assert connection.reason in caplog.text


async def test_a_clock_that_was_set_forward_is_noticed_within_the_hour(autojump_clock: MockClock) -> None:
    connection, wall = FakeConnection(lives_s=90 * 86_400.0), Wall()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_with_certificate, connection, wall)
        await trio.sleep(10)
        wall.ahead_s = 91 * 86_400.0
    assert connection.ended_at - began <= LOOK_AT_CLOCK_S


@pytest.mark.parametrize(
    "connection", [FakeConnection(is_known=False), FakeConnection()], ids=["no certificate", "no end"]
)
async def test_others_have_no_end(autojump_clock: MockClock, connection: FakeConnection) -> None:
    await end_with_certificate(connection, Wall())
    assert not connection.reason


async def test_nothing_is_said_of_a_connection_that_ended_before(autojump_clock: MockClock) -> None:
    connection = FakeConnection(lives_s=100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_with_certificate, connection, Wall())
        await trio.sleep(1)
        connection.closed.set()
    assert not connection.reason


async def test_a_connection_without_a_certificate_ends_after_its_time(autojump_clock: MockClock) -> None:
    connection = FakeConnection(is_known=False)
    began = trio.current_time()
    await end_anonymous(connection)
    assert connection.ended_at - began == pytest.approx(ANONYMOUS_S_MAX)
    assert "dial again" in connection.reason


async def test_a_nodes_connection_and_one_that_ended_before_are_left_alone(autojump_clock: MockClock) -> None:
    known, short = FakeConnection(), FakeConnection(is_known=False)
    local = FakeConnection(is_known=False)
    local.peer = replace(local.peer, is_local=True)
    async with trio.open_nursery() as nursery:
        for connection in (known, short, local):
            nursery.start_soon(end_anonymous, connection)
        await trio.sleep(1)
        short.closed.set()
    assert known.reason == short.reason == local.reason == ""


def test_the_longest_honest_call_and_a_whole_joining_fit_into_a_connection_without_a_certificate() -> None:
    assert ANONYMOUS_S_MAX > STATUS_WAIT_S_MAX
    assert ANONYMOUS_S_MAX > POLLS_S_MAX + 3 * CALL_S_MAX + HANDSHAKE_S_MAX, "root, issue, polls, and the last of them"


@pytest.mark.parametrize("end", ["listener", "dialer"])
async def test_both_ends_of_a_real_connection_look_at_the_peers_certificate(end: str) -> None:
    """The clock of one end is past the certificate of the other; TLS, which has the machine's clock, let it in."""
    past = max(SERVER.identity.not_after, CLIENT.identity.not_after) + 1
    accepted: list[Connection] = []
    listener = Listener(
        "127.0.0.1",
        0,
        SERVER,
        Router(lambda _method, _caller: None),
        lambda: replace(HELLO, node="m1"),
        on_connection=accepted.append,
        now=(lambda: past) if end == "listener" else None,
    )
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            port = await nursery.start(listener.run)
            dialing = dial(
                f"127.0.0.1:{port}",
                CLIENT.client_context(),
                replace(HELLO, node="w1"),
                now=(lambda: past) if end == "dialer" else None,
            )
            async with dialing as connection:
                await connection.closed.wait()
            assert len(accepted) == 1
            await accepted[0].closed.wait()
            nursery.cancel_scope.cancel()
