"""What this machine costs at least, for scale: every other figure moves with these."""

from __future__ import annotations

import json
import os
import ssl
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import trio
import trustme
from trio_websocket import WebSocketConnection, WebSocketRequest, wrap_client_stream, wrap_server_stream


def tell(bench: str, value: float, unit: str) -> None:
    """One line."""
    print(json.dumps({"bench": bench, "value": round(value, 4), "unit": unit}), flush=True)


def fdatasync_ms(directory: Path) -> float:
    """Append 600 bytes and make them durable."""
    times = []
    with (directory / "floor").open("wb") as file:
        for _ in range(300):
            began = time.perf_counter()
            file.write(os.urandom(600))
            file.flush()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


def python_us() -> float:
    """`sum(range(1000))`: how fast plain Python is right now."""
    times = []
    for _ in range(50):
        began = time.perf_counter()
        for _ in range(100):
            sum(range(1000))
        times.append((time.perf_counter() - began) / 100)
    return statistics.median(times) * 1e6


async def echo_ms() -> float:
    """1 KB there and back over bare trio-websocket and mutual TLS, both ends in this process."""
    authority = trustme.CA()
    server, client = (
        ssl.create_default_context(purpose) for purpose in (ssl.Purpose.CLIENT_AUTH, ssl.Purpose.SERVER_AUTH)
    )
    for context in (server, client):
        authority.issue_cert("localhost").configure_cert(context)
        authority.configure_trust(context)
    server.verify_mode = ssl.CERT_REQUIRED

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        async with trio.open_nursery() as nursery:
            request: WebSocketRequest = await wrap_server_stream(nursery, stream)
            socket = await request.accept()
            while True:
                await socket.send_message(await socket.get_message())

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_ssl_over_tcp, serve, 0, server, host="127.0.0.1"))
        port = listeners[0].transport_listener.socket.getsockname()[1]
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        tls = trio.SSLStream(stream, client, server_hostname="localhost")
        socket: WebSocketConnection = await wrap_client_stream(nursery, tls, "localhost", "/")
        times = []
        for _ in range(500):
            began = time.perf_counter()
            await socket.send_message(bytes(1024))
            await socket.get_message()
            times.append(time.perf_counter() - began)
        nursery.cancel_scope.cancel()
    return statistics.median(times) * 1e3


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as directory:
        tell("floor.fdatasync_ms", fdatasync_ms(Path(directory)), "ms")
    tell("floor.python_us", python_us(), "us")
    tell("floor.mtls_echo_ms", trio.run(echo_ms), "ms")
