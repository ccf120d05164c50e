"""TLS as a Trio stream over memory buffers, in place of `trio.SSLStream`.

Two reasons. A server must tell a refused client why: SSLStream drops the alert, and the client of TLS 1.3, which by
then believes itself connected, would only see a closed connection. And every message passes here: one write is one
flush, and one read empties all records that have arrived (performance-raft section 5).
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import trio

READ_BYTES: Final = 64 << 10
"""Taken from the socket at once."""
FAREWELL_S_MAX: Final = 1.0
"""Time for an alert or a close_notify to leave."""


class TlsStream(trio.abc.Stream):
    """A TLS connection over `transport`, one task reading and one sending.

    Every failure is a `trio.BrokenResourceError` whose cause is the `ssl.SSLError`; `failure` keeps the first, because
    the layers above lose causes. A send that is cancelled half-way breaks the stream.
    """

    def __init__(self, transport: trio.abc.Stream, context: ssl.SSLContext, *, server_name: str | None = None) -> None:
        """`server_name` makes this the client's end."""
        self._transport = transport
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_name is None, server_hostname=server_name
        )
        self._unsent = b""
        """Ciphertext that the socket did not take at once: it leaves before anything else."""
        self._is_sending = False
        self._sent = trio.Event()
        self._is_broken = False
        self.failure: ssl.SSLError | ssl.CertificateError | None = None

    @property
    def peer_certificate(self) -> Mapping[str, Any]:
        """What the peer's verified certificate says, as `ssl` parses it; empty if there is none or it is unverified."""
        return self._object.getpeercert() or {}

    @property
    def peer_certificate_der(self) -> bytes:
        """The peer's leaf; empty if there is none."""
        return self._object.getpeercert(binary_form=True) or b""

    async def do_handshake(self) -> None:
        """Complete the handshake, or tell the peer why not and raise."""
        try:
            await self._drive(self._object.do_handshake)
        except trio.BrokenResourceError:
            await self._farewell()
            raise

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send everything. `Cancelled` leaves the stream broken."""
        self._write(data)
        await self._send_pending()

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        self._check()
        with memoryview(data) as view:
            position = 0
            while position < len(view):
                position += self._guard(self._object.write, view[position:])

    @property
    def can_send_now(self) -> bool:
        """Whether `send_now` may be called: the socket is real, and nobody's bytes are under way."""
        return (
            isinstance(self._transport, trio.SocketStream)
            and not (self._is_sending or self._is_broken or self._unsent)
            and not self._outgoing.pending
        )

    def send_now(self, data: bytes | bytearray) -> bool:
        """Send without waiting and without a turn of the loop; False if a part is left for `flush`.

        Raises `trio.BrokenResourceError` when the peer is gone.
        """
        assert isinstance(self._transport, trio.SocketStream)
        self._write(data)
        ciphertext = self._outgoing.read()
        try:
            sent = os.write(self._transport.socket.fileno(), ciphertext)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._is_broken = True
            raise trio.BrokenResourceError(f"the connection is gone: {error}") from error
        self._unsent = ciphertext[sent:]
        return not self._unsent

    async def flush(self) -> None:
        """Send what `send_now` left."""
        self._check()
        await self._send_pending()

    async def wait_send_all_might_not_block(self) -> None:
        await self._transport.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has arrived, up to `max_bytes`; empty when the peer ended the connection.

        A connection cut short ends like an orderly one: WebSocket's own goodbye tells them apart.
        """
        self._check()
        limit = READ_BYTES if max_bytes is None else max_bytes
        try:
            first: bytes = await self._drive(lambda: self._object.read(limit))
        except trio.BrokenResourceError as error:
            if isinstance(error.__cause__, ssl.SSLZeroReturnError | ssl.SSLEOFError):
                return b""
            raise
        parts, size = [first], len(first)
        while size < limit and (more := self._read_ready(limit - size)):
            parts.append(more)
            size += len(more)
        return first if len(parts) == 1 else b"".join(parts)

    async def aclose(self) -> None:
        """Say goodbye if that takes no waiting behind a blocked sender, and close the socket."""
        try:
            if not self._is_broken and not self._is_sending:
                self._is_broken = True
                with suppress(ssl.SSLError):  # it wants the peer's goodbye, which nobody here waits for
                    self._object.unwrap()
                await self._farewell()
        finally:
            self._is_broken = True
            await self._transport.aclose()

    async def _farewell(self) -> None:
        with trio.move_on_after(FAREWELL_S_MAX):
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # a peer that is gone misses nothing
                await self._send_pending()

    def _check(self) -> None:
        if self._is_broken:
            raise trio.ClosedResourceError("the TLS stream is closed")

    def _guard(self, step: Callable[..., Any], *args: Any) -> Any:
        """Run one step of OpenSSL; its errors break the stream, except for wanting more bytes."""
        try:
            return step(*args)
        except ssl.SSLWantReadError:
            raise
        except (ssl.SSLError, ssl.CertificateError) as error:
            self._is_broken = True
            if self.failure is None:
                self.failure = error
            raise trio.BrokenResourceError(f"TLS: {error}") from error

    async def _drive(self, step: Callable[[], Any]) -> Any:
        """Repeat `step` with more bytes from the peer until it is satisfied."""
        await trio.lowlevel.checkpoint_if_cancelled()
        has_waited = False
        while True:
            try:
                result = self._guard(step)
            except ssl.SSLWantReadError:
                await self._send_what_step_said()
                data = await self._transport.receive_some(READ_BYTES)
                has_waited = True
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            else:
                await self._send_what_step_said()
                if not has_waited:
                    await trio.lowlevel.cancel_shielded_checkpoint()
                return result

    async def _send_what_step_said(self) -> None:
        """A step may have something to say by itself: the handshake, a new key.

        Never waits for what others send, which takes this along: a reader that did would not read meanwhile, and two
        ends whose sockets are full would wait for each other for ever.
        """
        if not self._is_sending and not self._unsent:
            await self._send_pending()

    def _read_ready(self, limit: int) -> bytes:
        """A record that needs no waiting for, or nothing."""
        try:
            data: bytes = self._object.read(limit)
        except ssl.SSLError:
            return b""  # wants more bytes, or broke: the next read says so
        return data

    async def _send_pending(self) -> None:
        """Hand what OpenSSL wrote to the socket, in order. No lock: a free one would cost a turn of the loop, too."""
        while self._unsent or self._outgoing.pending:
            if self._is_sending:
                await self._sent.wait()
                continue
            self._is_sending = True
            try:
                ciphertext, self._unsent = self._unsent + self._outgoing.read(), b""
                await self._transport.send_all(ciphertext)
            except BaseException:
                self._is_broken = True
                raise
            finally:
                self._is_sending = False
                self._sent.set()
                self._sent = trio.Event()
