"""The Trio-free client, against the daemon's own control socket in a thread."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from swarmd.errors import DeadlineExceeded, NotFound, OutcomeUnknown, SwarmError, Unavailable, Unimplemented
from swarmd.model import Role
from swarmd.transport.blocking import BlockingConnection
from swarmd.transport.connection import Call, Router, Stream
from swarmd.transport.control_socket import ControlSocket
from swarmd.wire.control import GetObject, RemoveObject, StatusReply, StatusRequest
from swarmd.wire.dispatch import AssignmentsMessage, AssignmentsRequest
from swarmd.wire.frames import Headers, Hello
from swarmd.wire.identity import Identity
from swarmd.wire.methods import ASSIGNMENTS, HEALTH, NODE_GET, NODE_REMOVE, SERVICE_REMOVE, STATUS, TASK_GET, Method
from swarmd.wire.peer import HealthReply, HealthRequest

IDENTITY = Identity(node_id="m1", role=Role.MANAGER, swarm_id="s")
MESSAGES = 300


class Daemon:
    """A control socket served by Trio in a thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.headers: list[Headers] = []
        self.cancelled = threading.Event()
        self.is_stuck = threading.Event()
        self._ready = threading.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self._thread = threading.Thread(target=trio.run, args=(self._main,))

    def __enter__(self) -> Daemon:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._token is not None
        self._token.run_sync_soon(self._scope.cancel)
        self._thread.join(10)
        assert not self._thread.is_alive()

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        router = Router(lambda _method, _caller: None)
        handlers: dict[Any, Callable[..., Any]] = {
            STATUS: self._status,
            NODE_GET: self._missing,
            TASK_GET: self._stuck,
            SERVICE_REMOVE: self._stuck,
            ASSIGNMENTS: self._count,
            HEALTH: self._large,
        }
        for method, handler in handlers.items():
            router.add(method, handler)
        with self._scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(ControlSocket(self.path, IDENTITY, router, lambda: Hello(version="1")).run)
                self._ready.set()

    async def _status(self, call: Call, request: StatusRequest) -> StatusReply:
        self.headers.append(call.headers)
        return StatusReply(node_id="m1", swarm_id="s", version="1")

    async def _missing(self, call: Call, request: GetObject) -> Any:
        raise NotFound(f"no node {request.id}", hint="swarmctl node ls")

    async def _stuck(self, call: Call, request: GetObject) -> Any:
        self.is_stuck.set()
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled.set()

    async def _count(self, call: Call, request: AssignmentsRequest, stream: Stream[AssignmentsMessage, Any]) -> None:
        try:
            if request.session_id == "silent":
                await trio.sleep_forever()
            for number in range(MESSAGES if request.session_id == "finite" else 1_000_000):
                await stream.send(AssignmentsMessage(results_in=str(number)))
        finally:
            self.cancelled.set()

    async def _large(self, call: Call, request: HealthRequest) -> HealthReply:
        return HealthReply(node_id="x" * 3_000_000)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path / "s") as running:
        yield running


def test_a_call_and_its_headers(daemon: Daemon) -> None:
    headers = Headers(key=b"once", seen_index=4)
    with BlockingConnection.connect(daemon.path) as connection:
        assert connection.peer_hello.version == "1"
        for _ in range(3):
            assert connection.call(STATUS, StatusRequest(), headers=headers).node_id == "m1"
    assert daemon.headers == [headers] * 3


def test_a_large_reply(daemon: Daemon) -> None:
    with BlockingConnection.connect(daemon.path) as connection:
        assert len(connection.call(HEALTH, HealthRequest()).node_id) == 3_000_000


def test_the_servers_error_is_raised(daemon: Daemon) -> None:
    with BlockingConnection.connect(daemon.path) as connection:
        with pytest.raises(NotFound, match="no node x") as told:
            connection.call(NODE_GET, GetObject(id="x"))
        assert told.value.hint == "swarmctl node ls"
        assert connection.call(STATUS, StatusRequest()).node_id == "m1"


def test_a_late_answer_is_deadline_exceeded_and_the_call_is_cancelled(daemon: Daemon) -> None:
    with BlockingConnection.connect(daemon.path) as connection:
        with pytest.raises(DeadlineExceeded):
            connection.call(TASK_GET, GetObject(id="x"), timeout_s=0.05)
        assert daemon.cancelled.wait(5)
        assert connection.call(STATUS, StatusRequest()).node_id == "m1"


def test_a_stream_is_read_to_its_end(daemon: Daemon) -> None:
    with BlockingConnection.connect(daemon.path) as connection:
        messages = connection.stream(ASSIGNMENTS, AssignmentsRequest(session_id="finite"))
        assert [int(message.results_in) for message in messages] == list(range(MESSAGES))


def test_leaving_a_stream_cancels_it_and_the_connection_goes_on(daemon: Daemon) -> None:
    with BlockingConnection.connect(daemon.path) as connection:
        messages: Any = connection.stream(ASSIGNMENTS, AssignmentsRequest(session_id="endless"))
        assert [int(next(messages).results_in) for _ in range(3)] == [0, 1, 2]
        messages.close()
        assert daemon.cancelled.wait(5)
        assert connection.call(STATUS, StatusRequest()).node_id == "m1"


def test_a_stream_that_falls_silent_is_unavailable_and_cancelled(daemon: Daemon) -> None:
    with BlockingConnection.connect(daemon.path) as connection:
        messages = connection.stream(ASSIGNMENTS, AssignmentsRequest(session_id="silent"), silence_s=0.05)
        with pytest.raises(Unavailable, match=r"has said nothing for 0.05 s"):
            next(messages)
        assert daemon.cancelled.wait(5)
        busy = connection.stream(ASSIGNMENTS, AssignmentsRequest(session_id="finite"), silence_s=5)
        assert len(list(busy)) == MESSAGES


def test_shapes_are_not_mixed_up(daemon: Daemon) -> None:
    with BlockingConnection.connect(daemon.path) as connection:
        with pytest.raises(ValueError, match="stream"):
            connection.call(ASSIGNMENTS, AssignmentsRequest(session_id="x"))
        with pytest.raises(ValueError, match="stream"):
            connection.stream(STATUS, StatusRequest())


def test_an_unserved_method_is_a_typed_error(daemon: Daemon) -> None:
    with BlockingConnection.connect(daemon.path) as connection, pytest.raises(Unimplemented, match="not served here"):
        connection.call(NODE_REMOVE, {"id": "x"})  # type: ignore[arg-type]


def test_a_missing_socket_has_a_hint(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no socket at") as told:
        BlockingConnection.connect(tmp_path / "none")
    assert told.value.hint is not None


def test_a_dead_socket_has_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(Unavailable, match="nobody listens"):
        BlockingConnection.connect(path)
    path.unlink()
    path.write_text("a file")
    with pytest.raises(Unavailable, match="is no socket"):
        BlockingConnection.connect(path)


def test_a_daemon_that_says_nothing_is_unavailable_in_time(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen(1)
        with pytest.raises(Unavailable, match="no answer"):
            BlockingConnection.connect(path, timeout_s=0.05)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", b"\x00\x01\x02", b""])
def test_something_else_at_the_socket_is_unavailable(tmp_path: Path, answer: bytes) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen(1)

        def reply() -> None:
            link, _ = other.accept()
            with link:
                link.recv(4096)
                link.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        with pytest.raises(Unavailable):
            BlockingConnection.connect(path, timeout_s=5)
        thread.join(5)


def test_a_daemon_that_goes_away_is_unavailable(tmp_path: Path) -> None:
    with Daemon(tmp_path / "s") as daemon:
        connection = BlockingConnection.connect(daemon.path)
        connection.call(STATUS, StatusRequest())
    with connection, pytest.raises(Unavailable, match="gone"):
        connection.call(STATUS, StatusRequest())


@pytest.mark.parametrize(
    ("method", "request_", "is_unknown"),
    [(SERVICE_REMOVE, RemoveObject(id="x"), True), (TASK_GET, GetObject(id="x"), False)],
)
def test_a_daemon_that_goes_away_under_a_change_leaves_its_outcome_unknown(
    tmp_path: Path, method: Method[Any, Any], request_: Any, is_unknown: bool
) -> None:
    raised: list[SwarmError] = []
    with Daemon(tmp_path / "s") as daemon:
        connection = BlockingConnection.connect(daemon.path)

        def call() -> None:
            with pytest.raises(SwarmError) as caught:
                connection.call(method, request_)
            raised.append(caught.value)

        thread = threading.Thread(target=call)
        thread.start()
        assert daemon.is_stuck.wait(10)
    thread.join(10)
    connection.close()
    assert [isinstance(error, OutcomeUnknown) for error in raised] == [is_unknown]
    assert isinstance(raised[0], Unavailable)


def test_a_change_that_could_not_be_sent_surely_did_not_happen(tmp_path: Path) -> None:
    with Daemon(tmp_path / "s") as daemon:
        connection = BlockingConnection.connect(daemon.path)
    with connection, pytest.raises(Unavailable) as caught:
        connection.call(SERVICE_REMOVE, RemoveObject(id="x"))
    assert not isinstance(caught.value, OutcomeUnknown)


def test_the_client_imports_neither_trio_nor_tls() -> None:
    code = (
        "import sys, swarmd.transport.blocking;"
        "print([m for m in ('trio', 'trio_websocket', 'ssl', 'cryptography', 'docker', 'apsw') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
