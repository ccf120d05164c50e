"""Listening and dialling over real loopback sockets with mutual TLS, and what happens to those who misbehave."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Message,
    RejectConnection,
    Request,
    TextMessage,
)

from swarmd.errors import (
    FailedPrecondition,
    Invalid,
    PermissionDenied,
    SwarmError,
    Unauthenticated,
    Unavailable,
)
from swarmd.model import Role
from swarmd.transport.connection import Call, Connection, Router
from swarmd.transport.credentials import Credentials, joining_context
from swarmd.transport.dialer import dial, parse_address
from swarmd.transport.listener import Listener
from swarmd.transport.places import OF_A_NETWORK_MAX
from swarmd.transport.session import Session
from swarmd.transport.tls import TlsStream
from swarmd.wire.authorise import REMOVED, CertificatesOnly, Standing, authorise
from swarmd.wire.ca import RootReply, RootRequest
from swarmd.wire.codec import encode
from swarmd.wire.frames import (
    ANONYMOUS_FRAME_BYTES_MAX,
    FRAME_BYTES_MAX,
    HANDSHAKE_S_MAX,
    DataFrame,
    ErrorFrame,
    Frame,
    Hello,
    HelloFrame,
    decode_frame,
    encode_frame,
)
from swarmd.wire.identity import Caller
from swarmd.wire.methods import CA_ROOT, HEALTH
from swarmd.wire.peer import HealthReply, HealthRequest

from .certificates import SWARM_ID, TestAuthority

AUTHORITY = TestAuthority()
SERVER = AUTHORITY.credentials("m1")
CLIENT = AUTHORITY.credentials("m2")
HELLO = Hello(swarm=SWARM_ID)
REQUEST = HealthRequest()


class Served:
    """A listener with its port."""

    def __init__(self, listener: Listener, port: int) -> None:
        self.listener = listener
        self.port = port
        self.address = f"127.0.0.1:{port}"

    def dial(self, credentials: Credentials = CLIENT, hello: Hello = HELLO) -> Any:
        return dial(self.address, credentials.client_context(), hello)

    async def is_well(self) -> bool:
        async with self.dial() as connection:
            return (await connection.call(HEALTH, REQUEST)).node_id == "m1"


async def _healthy(call: Call, request: HealthRequest) -> HealthReply:
    return HealthReply(node_id="m1")


async def _root(call: Call, request: RootRequest) -> RootReply:
    return RootReply(certificate=AUTHORITY.root)


class _Removals(CertificatesOnly):
    def __init__(self, removed: set[str]) -> None:
        super().__init__(SWARM_ID)
        self._removed = removed

    def of(self, node_id: str) -> Standing | None:
        return REMOVED if node_id in self._removed else None


@asynccontextmanager
async def served(
    *,
    credentials: Credentials = SERVER,
    removed: set[str] | None = None,
    admit: Callable[[Caller], None] | None = None,
    connections_max: int = 100,
    on_connection: Callable[[Connection], None] | None = None,
    **limits: Any,
) -> AsyncIterator[Served]:
    gone = removed if removed is not None else set()
    router = Router(lambda m, c: authorise(m, c, _Removals(gone)))
    router.add(HEALTH, _healthy)
    router.add(CA_ROOT, _root)
    listener = Listener(
        "127.0.0.1",
        0,
        credentials,
        router,
        lambda: Hello(node="m1", swarm=SWARM_ID),
        connections_max=connections_max,
        admit=admit,
        on_connection=on_connection,
        **limits,
    )
    async with trio.open_nursery() as nursery:
        yield Served(listener, await nursery.start(listener.run))
        nursery.cancel_scope.cancel()


# -- who is let in -----------------------------------------------------------------------------------------------


async def test_both_ends_know_each_other() -> None:
    seen: list[Connection] = []
    async with served(on_connection=seen.append) as server, server.dial() as connection:
        assert connection.peer.identity == SERVER.identity
        assert connection.peer_hello.node == "m1"
        await connection.call(HEALTH, REQUEST)
        assert [other.peer.identity for other in seen] == [CLIENT.identity]
        assert seen[0].peer.address.startswith("127.0.0.1:")


async def test_a_joiner_may_fetch_the_root_and_nothing_else() -> None:
    async with served() as server, dial(server.address, joining_context(None), Hello()) as connection:
        assert connection.peer.identity is None
        assert (await connection.call(CA_ROOT, RootRequest())).certificate == AUTHORITY.root
        with pytest.raises(Unauthenticated):
            await connection.call(HEALTH, REQUEST)
    async with (
        served() as server,
        dial(server.address, joining_context(AUTHORITY.root), Hello(), server_name="swarm-ca") as connection,
    ):
        assert connection.peer.identity == SERVER.identity
        await connection.call(CA_ROOT, RootRequest())


async def test_a_joiner_that_pinned_another_root_sends_nothing() -> None:
    async with served() as server:
        with pytest.raises(Unauthenticated, match="no manager of this swarm"):
            async with dial(server.address, joining_context(TestAuthority().root), Hello(), server_name="swarm-ca"):
                pass
        assert await server.is_well()


def _raw_context(issued: Any, root: bytes) -> ssl.SSLContext:
    return Credentials(certificate=issued.certificate, key=issued.key, root=root).client_context()


@pytest.mark.parametrize(
    ("valid_from_h", "valid_for_h", "why"), [(-10.0, 5.0, "expired"), (5.0, 10.0, "bad certificate|expired|unknown")]
)
async def test_an_outdated_certificate_is_refused_with_the_reason(
    valid_from_h: float, valid_for_h: float, why: str
) -> None:
    issued = AUTHORITY.issue("m3", valid_from_h=valid_from_h, valid_for_h=valid_for_h)
    async with served() as server:
        with pytest.raises(Unauthenticated, match=why):
            async with dial(server.address, _raw_context(issued, AUTHORITY.root), HELLO):
                pass
        assert await server.is_well()


async def test_a_certificate_of_another_root_is_refused() -> None:
    stranger = TestAuthority()
    issued = stranger.issue("m3")
    context = _raw_context(issued, stranger.root)
    context.load_verify_locations(cadata=AUTHORITY.root.decode())
    async with served() as server:
        with pytest.raises(Unauthenticated, match="unknown ca"):
            async with dial(server.address, context, HELLO):
                pass
        assert await server.is_well()


async def test_a_node_of_another_swarm_under_the_same_root_may_call_nothing() -> None:
    other = AUTHORITY.credentials("m3", swarm_id="another")
    async with served() as server, server.dial(other, Hello()) as connection:
        with pytest.raises(PermissionDenied, match="another swarm"):
            await connection.call(HEALTH, REQUEST)
        with pytest.raises(Unauthenticated, match="another swarm"):
            async with server.dial(other, Hello(swarm="another")):
                pass


async def test_a_hello_that_contradicts_the_certificate_is_refused() -> None:
    async with served() as server:
        with pytest.raises((Unauthenticated, Unavailable)):
            async with server.dial(hello=Hello(node="m9")) as connection:
                await connection.call(HEALTH, REQUEST)
        assert await server.is_well()


async def test_a_removed_node_is_cut_off_and_then_refused_at_the_door() -> None:
    removed: set[str] = set()

    def admit(caller: Caller) -> None:
        if caller.identity is not None and caller.identity.node_id in removed:
            raise PermissionDenied("node m2 was removed from the swarm")

    async with served(removed=removed, admit=admit) as server:
        async with server.dial() as connection:
            await connection.call(HEALTH, REQUEST)
            removed.add("m2")
            with pytest.raises(PermissionDenied, match="removed"):
                await connection.call(HEALTH, REQUEST)
            for open_one in server.listener.connections:
                open_one.abort("removed")
            with trio.fail_after(1):
                await connection.closed.wait()
        with pytest.raises(PermissionDenied, match="removed"):
            async with server.dial():
                pass


async def test_aborting_one_peer_leaves_the_others_alone() -> None:
    async with served() as server, server.dial() as one, server.dial(AUTHORITY.credentials("w9", Role.WORKER)) as two:
        await two.call(HEALTH, REQUEST)
        for open_one in server.listener.connections:
            if open_one.peer.identity is not None and open_one.peer.identity.node_id == "m2":
                open_one.abort("removed")
        with trio.fail_after(1):
            await one.closed.wait()
        await two.call(HEALTH, REQUEST)


async def test_a_replaced_certificate_serves_the_next_handshake_and_spares_the_open_ones() -> None:
    credentials = AUTHORITY.credentials("m1")
    successor = TestAuthority("swarm-ca-next")
    async with served(credentials=credentials) as server, server.dial() as connection:
        issued = successor.issue("m1")
        credentials.replace(certificate=issued.certificate, key=issued.key, root=successor.root)
        await connection.call(HEALTH, REQUEST)
        with pytest.raises(Unauthenticated):
            async with server.dial():
                pass
        async with server.dial(successor.credentials("m2")) as renewed:
            await renewed.call(HEALTH, REQUEST)


# -- addresses ---------------------------------------------------------------------------------------------------


async def test_a_busy_port_is_a_failed_precondition() -> None:
    async with served() as server:
        again = Listener("127.0.0.1", server.port, SERVER, Router(lambda _m, _c: None), Hello)
        with pytest.raises(FailedPrecondition, match="in use"):
            await again.run()
        elsewhere = Listener("192.0.2.1", 0, SERVER, Router(lambda _m, _c: None), Hello)
        with pytest.raises(FailedPrecondition, match="cannot listen"):
            await elsewhere.run()


async def test_nobody_listening_is_unavailable() -> None:
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))
        port = placeholder.getsockname()[1]
    with pytest.raises(Unavailable, match=f"cannot connect to 127.0.0.1:{port}"):
        async with dial(f"127.0.0.1:{port}", CLIENT.client_context(), HELLO):
            pass


@pytest.mark.parametrize(
    ("text", "expected"),
    [("host:1", ("host", 1)), ("192.0.2.1:4242", ("192.0.2.1", 4242)), ("[2001:db8::1]:65535", ("2001:db8::1", 65535))],
)
def test_addresses_are_host_and_port(text: str, expected: tuple[str, int]) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        ":1",
        "host:",
        "host:0",
        "host:65536",
        "host:-1",
        "host:1x",
        "::1:5",
        "[::1]",
        "host:\u0661",
        "host:" + "1" * 5000,
    ],
)
def test_what_is_no_address_is_invalid(text: str) -> None:
    with pytest.raises(Invalid):
        parse_address(text)


async def test_what_the_block_raises_arrives_bare() -> None:
    async with served() as server:
        with pytest.raises(KeyError):
            async with server.dial():
                raise KeyError("mine")


async def test_a_cancelled_block_leaves_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with served() as server:
        began = trio.current_time()
        for _ in range(3):
            with trio.CancelScope() as scope:
                async with server.dial() as connection:
                    await connection.call(HEALTH, REQUEST)
                    scope.cancel()
                    await trio.sleep_forever()
        assert trio.current_time() - began < 0.9


async def test_a_server_that_accepts_and_says_nothing_is_unavailable_in_time() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]

    async def silent(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, silent, listeners)
        with pytest.raises(Unavailable, match=r"within 0\.05 s"):
            async with dial(f"127.0.0.1:{port}", CLIENT.client_context(), HELLO, timeout_s=0.05):
                pass
        nursery.cancel_scope.cancel()


async def test_a_server_that_speaks_no_tls_is_unavailable() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]

    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 smtp.example.org ESMTP\r\n")
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, greet, listeners)
        with pytest.raises(Unavailable, match="does not speak TLS"):
            async with dial(f"127.0.0.1:{port}", CLIENT.client_context(), HELLO):
                pass
        nursery.cancel_scope.cancel()


# -- hostile peers -----------------------------------------------------------------------------------------------


class RawPeer:
    """A client that says whatever the test wants, below the protocol."""

    def __init__(self, stream: TlsStream) -> None:
        self.stream = stream
        self.websocket = WSConnection(ConnectionType.CLIENT)
        self.events: list[Any] = []

    async def upgrade(self, subprotocol: str = "swarm.1") -> Any:
        await self.stream.send_all(self.websocket.send(Request(host="x", target="/", subprotocols=[subprotocol])))
        return await self.next_event()

    async def next_event(self) -> Any:
        while not self.events:
            data = await self.stream.receive_some()
            if not data:
                return None
            self.websocket.receive_data(data)
            self.events = list(self.websocket.events())
        return self.events.pop(0)

    async def send(self, *frames: bytes) -> None:
        for frame in frames:
            await self.stream.send_all(self.websocket.send(BytesMessage(data=frame)))

    async def last_words(self) -> list[Frame]:
        """Every frame until the connection ends."""
        frames: list[Frame] = []
        with trio.fail_after(5), contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while (event := await self.next_event()) is not None:
                if isinstance(event, Message):
                    frames.append(decode_frame(bytes(event.data)))
                if isinstance(event, CloseConnection):
                    break
        return frames


@asynccontextmanager
async def raw_peer(server: Served, context: ssl.SSLContext | None = None) -> AsyncIterator[RawPeer]:
    socket_stream = await trio.open_tcp_stream("127.0.0.1", server.port)
    stream = TlsStream(socket_stream, context or CLIENT.client_context(), server_name="swarm-manager")
    try:
        await stream.do_handshake()
        yield RawPeer(stream)
    finally:
        await trio.aclose_forcefully(stream)


HOSTILE_FRAMES = {
    "garbage": b"\xff\xfe\xfd",
    "empty": b"",
    "not an array": encode({"type": 1}),
    "depth": b"\x81" * 10_000,
    "duplicate keys": bytes.fromhex("8302 01 a2616101616102".replace(" ", "")),
    "indefinite": bytes.fromhex("9f0201ff"),
    "tag": bytes.fromhex("8302 01 d9d9f701".replace(" ", "")),
    "huge length": bytes.fromhex("9bffffffffffffffff"),
    "unknown type": encode([99, 1]),
    "second hello": encode_frame(HelloFrame(Hello())),
    "wrong parity": encode([1, 2, "health", None, {}, {}]),
    "never opened": encode_frame(DataFrame(77, {})),
    "stream 0": encode([1, 0, "health", None, {}, {}]),
    "not a number": encode([1, 1, "health", float("nan"), {}, {}]),
    "too big": bytes(FRAME_BYTES_MAX + 1),
}


@pytest.mark.parametrize("frame", HOSTILE_FRAMES.values(), ids=HOSTILE_FRAMES.keys())
async def test_a_hostile_frame_ends_that_connection_with_a_typed_error(frame: bytes) -> None:
    async with served() as server, server.dial() as neighbour, raw_peer(server) as peer:
        assert isinstance(await peer.upgrade(), AcceptConnection)
        await peer.send(Session(is_dialer=True, hello=HELLO).greeting(), frame)
        words = await peer.last_words()
        assert isinstance(words[0], HelloFrame)
        if len(frame) <= FRAME_BYTES_MAX:
            assert isinstance(words[-1], ErrorFrame)
            assert words[-1].stream == 0
            assert words[-1].error.kind in {"invalid", "unimplemented"}
        await neighbour.call(HEALTH, REQUEST)


async def test_a_frame_over_the_limit_closes_with_too_big() -> None:
    async with served() as server, raw_peer(server) as peer:
        await peer.upgrade()
        await peer.send(Session(is_dialer=True, hello=HELLO).greeting())
        await peer.next_event()
        await peer.send(bytes(FRAME_BYTES_MAX + 1))
        close = await peer.next_event()
        assert isinstance(close, CloseConnection)
        assert close.code == 1009
        assert await server.is_well()


async def test_without_a_certificate_the_limit_is_small() -> None:
    async with served() as server, raw_peer(server, joining_context(None)) as peer:
        await peer.upgrade()
        await peer.send(Session(is_dialer=True, hello=Hello()).greeting())
        await peer.next_event()
        await peer.send(bytes(ANONYMOUS_FRAME_BYTES_MAX + 1))
        close = await peer.next_event()
        assert isinstance(close, CloseConnection)
        assert close.code == 1009


async def test_endless_empty_fragments_are_cut_off() -> None:
    async with served() as server, raw_peer(server, joining_context(None)) as peer:
        await peer.upgrade()
        flood = b"".join(
            bytes(peer.websocket.send(BytesMessage(data=b"", message_finished=False))) for _ in range(1000)
        )

        async def pour() -> None:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while True:
                    await peer.stream.send_all(flood)

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pour)
                await peer.last_words()
                nursery.cancel_scope.cancel()
        assert await server.is_well()


async def test_text_is_refused() -> None:
    async with served() as server, raw_peer(server) as peer:
        await peer.upgrade()
        await peer.stream.send_all(peer.websocket.send(TextMessage(data="hello")))
        await peer.last_words()
        assert await server.is_well()


async def test_the_subprotocol_is_asked_for() -> None:
    async with served() as server, raw_peer(server) as peer:
        event = await peer.upgrade("chat")
        assert isinstance(event, RejectConnection)
        assert event.status_code == 400
        assert await server.is_well()


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00" * 100, b"POST /x HTTP/9.9\r\n\r\n", b"A" * 100_000, b"\r\n" * 50],
    ids=["no upgrade", "zeros", "strange", "long line", "blank lines"],
)
async def test_what_is_no_upgrade_ends_that_connection_soon(data: bytes) -> None:
    async with served() as server, raw_peer(server) as peer:
        with contextlib.suppress(trio.BrokenResourceError):
            await peer.stream.send_all(data)
            if data != b"\r\n" * 50:
                with trio.fail_after(3):
                    while await peer.stream.receive_some():
                        pass
        assert await server.is_well()


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n", bytes(5000)])
async def test_what_is_no_tls_disturbs_nobody(data: bytes) -> None:
    async with served() as server, await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
        if data:
            await stream.send_all(data)
        assert await server.is_well()


async def test_an_unfinished_handshake_is_cut_after_its_limit(autojump_clock: trio.testing.MockClock) -> None:
    async with served() as server:
        began = trio.current_time()
        for said in (b"", b"\x16\x03\x01\x02\x00\x01\x00"):
            async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
                if said:
                    await stream.send_all(said)
                with contextlib.suppress(trio.BrokenResourceError):
                    assert await stream.receive_some() == b""
        assert trio.current_time() - began <= 2 * HANDSHAKE_S_MAX + 3


async def test_silent_sockets_take_no_place_from_others() -> None:
    async with served(connections_max=OF_A_NETWORK_MAX + 20) as server, contextlib.AsyncExitStack() as stack:
        for _ in range(OF_A_NETWORK_MAX + 5):
            await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", server.port))
        assert await server.is_well()


async def test_connections_are_capped() -> None:
    async with served(connections_max=2) as server:
        async with server.dial() as one, server.dial():
            with pytest.raises((Unavailable, Unauthenticated)):
                async with server.dial():
                    pass
            await one.call(HEALTH, REQUEST)
        with trio.fail_after(2):
            while not await _has_room(server):
                await trio.testing.wait_all_tasks_blocked()


async def _has_room(server: Served) -> bool:
    try:
        return await server.is_well()
    except SwarmError:
        return False


async def test_random_bytes_after_the_handshake_never_reach_the_neighbours() -> None:

    rng = random.Random(20)
    async with served() as server, server.dial() as neighbour:
        for _ in range(15):
            async with raw_peer(server) as peer:
                await peer.upgrade()
                await peer.send(Session(is_dialer=True, hello=HELLO).greeting())
                for _ in range(rng.randrange(1, 4)):
                    with contextlib.suppress(trio.BrokenResourceError):
                        if rng.random() < 0.5:
                            await peer.stream.send_all(rng.randbytes(rng.randrange(1, 400)))
                        else:
                            await peer.send(rng.randbytes(rng.randrange(1, 60)))
            await neighbour.call(HEALTH, REQUEST)


async def test_a_defect_in_a_callback_ends_one_connection_only(caplog: pytest.LogCaptureFixture) -> None:
    calls = 0

    def broken(connection: Connection) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ZeroDivisionError

    async with served(on_connection=broken) as server:
        with pytest.raises((Unavailable, Unauthenticated)):
            await server.is_well()
        assert await server.is_well()
    assert "because of a defect" in caplog.text
