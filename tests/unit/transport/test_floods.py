"""Who sends more than anybody needs is slowed by itself or cut off, and its neighbours are served meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Request
from wsproto.extensions import PerMessageDeflate

from swarmd.transport.connection import Call, Router
from swarmd.transport.credentials import joining_context
from swarmd.transport.link import NOISE_FACTOR
from swarmd.transport.listener import FIRST_WORD_S_MAX, Listener
from swarmd.transport.router import HANDLERS_MAX
from swarmd.transport.session import Session
from swarmd.wire.codec import encode
from swarmd.wire.frames import (
    ANONYMOUS_FRAME_BYTES_MAX,
    ANONYMOUS_FRAMES_MAX,
    ANONYMOUS_STREAMS_MAX,
    HANDSHAKE_S_MAX,
    STREAMS_MAX,
    CancelFrame,
    ErrorFrame,
    Hello,
    OpenFrame,
    encode_frame,
)
from swarmd.wire.frames import NO_HEADERS as NONE
from swarmd.wire.methods import HEALTH
from swarmd.wire.peer import HealthReply, HealthRequest

from .test_listener import HELLO, REQUEST, SERVER, RawPeer, Served, raw_peer, served


class Slow:
    """Handlers that take for ever, and how many of them run."""

    def __init__(self) -> None:
        self.running = self.most = 0

    async def serve(self, call: Call, request: HealthRequest) -> HealthReply:
        if call.deadline - trio.current_time() < 60:  # who says when it must be done is answered
            return HealthReply(node_id="m1")
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await trio.sleep_forever()
        finally:
            self.running -= 1
        raise AssertionError


@asynccontextmanager
async def slow_server() -> AsyncIterator[tuple[Served, Slow]]:
    slow = Slow()
    router = Router(lambda _method, _caller: None)
    router.add(HEALTH, slow.serve)
    listener = Listener("127.0.0.1", 0, SERVER, router, lambda: Hello(node="m1", swarm=HELLO.swarm))
    async with trio.open_nursery() as nursery:
        yield Served(listener, await nursery.start(listener.run)), slow
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def greeted(server: Served, *, anonymous: bool = False) -> AsyncIterator[RawPeer]:
    async with raw_peer(server, joining_context(None) if anonymous else None) as peer:
        assert isinstance(await peer.upgrade(), AcceptConnection)
        await peer.send(Session(is_dialer=True, hello=Hello() if anonymous else HELLO).greeting())
        await peer.next_event()
        yield peer


def an_open(number: int) -> bytes:
    return encode_frame(OpenFrame(number, HEALTH.name, None, NONE, {}))


async def pour(peer: RawPeer, frames: list[bytes]) -> None:
    """Sends until the other side wants no more."""
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await peer.stream.send_all(b"".join(bytes(peer.websocket.send(BytesMessage(data=frame))) for frame in frames))


async def test_calls_that_are_opened_and_cancelled_leave_nothing_and_hold_up_nobody() -> None:
    """Rapid reset (CVE-2023-44487): each is over at once, so no limit of streams ever counts it."""
    async with slow_server() as (server, slow), server.dial() as neighbour, greeted(server) as peer:
        for batch in range(10):
            frames = []
            for number in range(batch * 2_000 + 1, (batch + 1) * 2_000 + 1, 2):
                frames += [an_open(number), encode_frame(CancelFrame(number))]
            await pour(peer, frames)
            assert (await neighbour.call(HEALTH, REQUEST)).node_id == "m1"
        await peer.send(encode_frame(OpenFrame(99_999, HEALTH.name, 5.0, NONE, {})))
        with trio.fail_after(10):
            await peer.next_event()  # all before it is dealt with
        assert slow.running == 0
        assert slow.most <= HANDLERS_MAX


async def test_more_streams_than_there_may_be_end_the_connection_and_its_handlers() -> None:
    async with slow_server() as (server, slow), server.dial() as neighbour, greeted(server) as peer:
        await pour(peer, [an_open(number) for number in range(1, 2 * (STREAMS_MAX + 500), 2)])
        words = await peer.last_words()
        assert isinstance(words[-1], ErrorFrame)
        assert (words[-1].stream, words[-1].error.kind) == (0, "resource_exhausted")
        assert slow.most <= STREAMS_MAX
        await neighbour.call(HEALTH, REQUEST)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert slow.running == 0


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ([an_open(number) for number in range(1, 2 * (ANONYMOUS_STREAMS_MAX + 1) + 1, 2)], "streams"),
        (
            [
                frame
                for number in range(1, ANONYMOUS_FRAMES_MAX + 3, 2)
                for frame in (an_open(number), encode_frame(CancelFrame(number)))
            ],
            "frames",
        ),
    ],
)
async def test_without_a_certificate_floods_end_early(frames: list[bytes], says: str) -> None:
    async with slow_server() as (server, slow), greeted(server, anonymous=True) as peer:
        await pour(peer, frames)
        words = await peer.last_words()
        assert isinstance(words[-1], ErrorFrame)
        assert words[-1].error.kind == "resource_exhausted"
        assert says in words[-1].error.message
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert slow.running == 0


async def test_a_flood_of_pings_is_answered_for_a_while_and_then_cut_off() -> None:
    async with served() as server, server.dial() as neighbour, greeted(server, anonymous=True) as peer:
        ping = b"".join(bytes(peer.websocket.send(Ping(payload=b"x" * 125))) for _ in range(100))
        sent = 0

        async def read() -> None:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while await peer.stream.receive_some():
                    pass

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    while True:
                        await peer.stream.send_all(ping)
                        sent += len(ping)
                        await neighbour.call(HEALTH, REQUEST)
        assert sent <= 2 * NOISE_FACTOR * ANONYMOUS_FRAME_BYTES_MAX
        assert await server.is_well()


async def test_who_pings_and_reads_no_answer_holds_up_nobody(autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = 0.02
    async with served() as server, server.dial() as neighbour, greeted(server) as peer:
        ping = b"".join(bytes(peer.websocket.send(Ping(payload=b"x" * 125))) for _ in range(1_000))
        with trio.move_on_after(1.0), contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                await peer.stream.send_all(ping)
        for _ in range(20):
            await neighbour.call(HEALTH, REQUEST)


async def test_compression_is_declined_and_a_compressed_frame_ends_the_connection() -> None:
    async with served() as server, raw_peer(server) as peer:
        offer = Request(host="x", target="/", subprotocols=["swarm.1"], extensions=[PerMessageDeflate()])
        await peer.stream.send_all(peer.websocket.send(offer))
        accepted = await peer.next_event()
        assert isinstance(accepted, AcceptConnection)
        assert accepted.extensions == []
        compressed = bytearray(peer.websocket.send(BytesMessage(data=Session(is_dialer=True, hello=HELLO).greeting())))
        compressed[0] |= 0x40  # RSV1: "this message is compressed" (RFC 7692 section 6)
        await peer.stream.send_all(bytes(compressed))
        with trio.fail_after(5):
            while (event := await peer.next_event()) is not None and not isinstance(event, CloseConnection):
                pass
        assert await server.is_well()


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Protocol: swarm.1\r\n"
)


@pytest.mark.parametrize(
    "said", [b"", b"GET / HT", UPGRADE, UPGRADE + b"\r\n"], ids=["nothing", "a line", "no end", "and no HELLO"]
)
async def test_an_upgrade_that_goes_on_for_ever_is_cut_after_its_limit(said: bytes, autojump_clock: MockClock) -> None:
    """Slow loris: the limit is for TLS, upgrade and HELLO together, whatever trickles in meanwhile."""
    autojump_clock.autojump_threshold = 0.02
    async with served() as server, raw_peer(server) as peer:
        began = trio.current_time()
        ended = trio.Event()

        async def read() -> None:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while await peer.stream.receive_some():
                    pass
            ended.set()

        async def drip() -> None:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await peer.stream.send_all(said or b"G")
                while not said.endswith(b"\r\n\r\n"):
                    await trio.sleep(1)
                    await peer.stream.send_all(b"X")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            nursery.start_soon(read)
            await ended.wait()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began <= HANDSHAKE_S_MAX + 3
        assert await server.is_well()


async def test_one_byte_and_silence_is_cut_after_the_limit_and_silence_alone_sooner(autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = 0.02
    async with served() as server:
        for said, limit_s in ((b"", FIRST_WORD_S_MAX), (b"\x16", HANDSHAKE_S_MAX)):
            async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
                began = trio.current_time()
                if said:
                    await stream.send_all(said)
                with contextlib.suppress(trio.BrokenResourceError):
                    while await stream.receive_some():
                        pass
                assert trio.current_time() - began == pytest.approx(limit_s, abs=2)


BAD_FRAMES: dict[str, Any] = {
    "text that is no UTF-8": b"\x86\x01\x01\x62\xff\xfe\xf6\xa0\xa0",
    "half of a surrogate pair": b"\x86\x01\x01\x63\xed\xa0\x80\xf6\xa0\xa0",
    "a stream of 2^64 - 1": encode([1, 2**64 - 1, "health", None, {}, {}]),
    "a negative stream": encode([1, -1, "health", None, {}, {}]),
    "a deadline that is NaN": encode([1, 1, "health", float("nan"), {}, {}]),
    "a deadline without end": encode([1, 1, "health", float("inf"), {}, {}]),
    "a negative deadline": encode([1, 1, "health", -1, {}, {}]),
    "credit of 2^63": encode([3, 1, 2**63, 1]),
    "negative credit": encode([3, 1, -1, 1]),
    "credit that is NaN": encode([3, 1, float("nan"), 1]),
    "an index that is text": encode([1, 1, "health", None, {"seen_index": "1"}, {}]),
    "a boolean for a number": encode([1, True, "health", None, {}, {}]),
    "undefined": b"\x86\x01\x01\x66health\xf7\xa0\xa0",
    "maps in maps": b"\x86\x01\x01\x66health\xf6\xa0" + b"\xa1\x61a" * 60 + b"\xa0",
}


@pytest.mark.parametrize("frame", BAD_FRAMES.values(), ids=BAD_FRAMES)
async def test_values_that_no_peer_sends_end_its_connection_before_any_handler_runs(frame: bytes) -> None:
    async with slow_server() as (server, slow), server.dial() as neighbour, greeted(server) as peer:
        await peer.send(frame)
        words = await peer.last_words()
        assert isinstance(words[-1], ErrorFrame)
        assert (words[-1].stream, words[-1].error.kind) == (0, "invalid")
        assert slow.most == 0
        await neighbour.call(HEALTH, REQUEST)
