from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swarmctl.client import CALL_S_MAX, CHANGE_S_MAX, Client
from swarmctl.environment import Environment
from swarmd.errors import Conflict, DeadlineExceeded, OutcomeUnknown, SwarmError, Unavailable
from swarmd.wire.control import Removed, RemoveObject, StatusReply
from swarmd.wire.frames import Headers
from swarmd.wire.methods import SERVICE_REMOVE, STATUS, Method


class Server:
    """Fails as told, `duration_s` after it was asked; then removes."""

    def __init__(self) -> None:
        self.failures: list[SwarmError] = []
        self.refuse_connections_from = 10**6
        self.headers: list[Headers] = []
        self.timeouts: list[float] = []
        self.connections = self.closed = 0
        self.clock = self.duration_s = 0.0
        self.sleeps: list[float] = []

    def client(self) -> Client:
        return Client(
            Path("/socket"),
            Environment(
                connect=self._connect,
                monotonic=lambda: self.clock,
                sleep=self._sleep,
                random_bytes=lambda count: b"k" * count,
            ),
        )

    def _connect(self, path: Path) -> Server:
        self.connections += 1
        if self.connections >= self.refuse_connections_from:
            raise Unavailable("nobody is listening", hint="start swarmd")
        return self

    def _sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.clock += seconds

    def close(self) -> None:
        self.closed += 1

    def call(self, method: Method[Any, Any], request: Any, *, timeout_s: float, headers: Headers) -> Any:
        if method is STATUS:
            return StatusReply(node_id="n", swarm_id="s", version="1", applied_index=41)
        self.headers.append(headers)
        self.timeouts.append(timeout_s)
        self.clock += min(self.duration_s, timeout_s)
        if self.failures:
            raise self.failures.pop(0)
        return Removed(id=request.id)


@pytest.fixture
def server() -> Server:
    return Server()


def test_a_change_carries_a_key_and_the_index_seen_before(server: Server) -> None:
    with server.client() as client:
        client.change(SERVICE_REMOVE, RemoveObject(id="x"))
    assert server.headers == [Headers(key=b"k" * 16, seen_index=41)]
    assert server.closed == server.connections == 1


def test_a_change_is_retried_under_the_same_key_on_a_new_connection(server: Server) -> None:
    server.failures = [Unavailable("leader lost"), OutcomeUnknown("unknown"), DeadlineExceeded("slow")]
    assert server.client().change(SERVICE_REMOVE, RemoveObject(id="x")).id == "x"
    assert len(server.headers) == 4
    assert len({(headers.key, headers.seen_index) for headers in server.headers}) == 1
    assert server.connections == 4
    assert server.sleeps == sorted(server.sleeps)


def test_each_change_has_its_own_key() -> None:
    server, keys = Server(), iter(range(9))
    environment = Environment(connect=server._connect, random_bytes=lambda count: bytes([next(keys)]) * count)
    client = Client(Path("/socket"), environment)
    client.change(SERVICE_REMOVE, RemoveObject(id="x"))
    client.change(SERVICE_REMOVE, RemoveObject(id="x"))
    assert server.headers[0].key != server.headers[1].key


def test_retries_end_with_the_last_error(server: Server) -> None:
    server.duration_s = 4.0
    server.failures = [Unavailable(f"no leader {number}") for number in range(100)]
    with pytest.raises(Unavailable, match="no leader"):
        server.client().change(SERVICE_REMOVE, RemoveObject(id="x"))
    assert server.clock <= CHANGE_S_MAX + 4.0
    assert all(0 < timeout <= CALL_S_MAX for timeout in server.timeouts)


def test_a_daemon_that_has_itself_waited_for_a_leader_is_not_asked_again(server: Server) -> None:
    server.duration_s = 10.0
    server.failures = [Unavailable("no leader: 2 of 3 are needed")] * 2
    with pytest.raises(Unavailable, match="2 of 3"):
        server.client().change(SERVICE_REMOVE, RemoveObject(id="x"))
    assert len(server.headers) == 1


def test_a_change_without_an_answer_may_have_happened(server: Server) -> None:
    server.duration_s = CALL_S_MAX
    server.failures = [DeadlineExceeded("slow")] * 9
    with pytest.raises(OutcomeUnknown) as caught:
        server.client().change(SERVICE_REMOVE, RemoveObject(id="x"))
    assert caught.value.hint
    assert len(server.headers) == 2


@pytest.mark.parametrize("doubt", [OutcomeUnknown("the connection is gone"), DeadlineExceeded("slow")])
def test_a_refusal_says_nothing_of_an_earlier_try_without_an_answer(server: Server, doubt: SwarmError) -> None:
    server.duration_s = 10.0
    server.failures = [doubt, Unavailable("no leader: 2 of 3 are needed")]
    with pytest.raises(OutcomeUnknown, match="2 of 3"):
        server.client().change(SERVICE_REMOVE, RemoveObject(id="x"))
    assert len(server.headers) == 2


def test_other_errors_are_not_retried(server: Server) -> None:
    server.failures = [Conflict("no")]
    with pytest.raises(Conflict):
        server.client().change(SERVICE_REMOVE, RemoveObject(id="x"))
    assert len(server.headers) == 1


def test_a_daemon_that_is_not_there_fails_at_once(server: Server) -> None:
    server.refuse_connections_from = 1
    with pytest.raises(Unavailable, match="nobody"):
        server.client().change(SERVICE_REMOVE, RemoveObject(id="x"))
    assert server.sleeps == []


def test_a_daemon_that_goes_away_meanwhile_is_waited_for(server: Server) -> None:
    server.refuse_connections_from = 2
    server.failures = [Unavailable("connection lost")]
    with pytest.raises(Unavailable, match="nobody"):
        server.client().change(SERVICE_REMOVE, RemoveObject(id="x"))
    assert CHANGE_S_MAX - 2 < server.clock <= CHANGE_S_MAX


def test_reads_are_tried_once(server: Server) -> None:
    server.failures = [Unavailable("no leader")]
    client = server.client()
    with pytest.raises(Unavailable):
        client.read(SERVICE_REMOVE, RemoveObject(id="x"))
    assert client.read(SERVICE_REMOVE, RemoveObject(id="x")).id == "x"
    assert server.connections == 2
