"""Opening connections."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from swarmd.errors import Invalid, SwarmError, Unauthenticated, Unavailable
from swarmd.model import Role
from swarmd.transport.connection import Connection, Router
from swarmd.transport.credentials import SERVER_NAME, identity_of
from swarmd.transport.establish import establish, no_calls
from swarmd.transport.expiry import end_with_certificate
from swarmd.transport.link import LinkLost
from swarmd.transport.tcp import limit_unacknowledged
from swarmd.transport.tls import TlsStream
from swarmd.wire.frames import HANDSHAKE_S_MAX, Hello
from swarmd.wire.identity import Caller, Identity

_PORT: Final = re.compile(r"[0-9]{1,5}")
"""`int` itself raises for some thousand digits."""
_DATE_PROBLEMS: Final = frozenset({9, 10})
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL."""


class UnknownAuthority(Unauthenticated):
    """No root that is trusted here vouches for the peer: it is a stranger, or the swarm's root was replaced."""


_UNKNOWN_AUTHORITY: Final = frozenset({7, 18, 19, 20, 21})
"""OpenSSL's X509_V_ERR_ codes: a wrong signature, self-signed (in the chain), no local issuer, an unverifiable leaf."""


@asynccontextmanager
async def dial(
    address: str,
    context: ssl.SSLContext,
    hello: Hello,
    *,
    router: Router | None = None,
    server_name: str = SERVER_NAME,
    timeout_s: float = HANDSHAKE_S_MAX,
    now: Callable[[], float] | None = None,
    distrusted: frozenset[str] = frozenset(),
) -> AsyncIterator[Connection]:
    """A connection to `host:port` (`[v6]:port` too), HELLOs exchanged within `timeout_s`; closed politely at the end of
    the block, or when the peer's certificate expires by `now` (epoch seconds).

    Raises `Unavailable`, `Unauthenticated` when TLS refuses either side or the peer is of another swarm than
    `hello.swarm` or shows one of the `distrusted` certificates (fingerprints), `Invalid` for an address that is none,
    or what the listener says when it refuses. What the block raises arrives as it is, not in a group.
    """
    host, port = parse_address(address)

    async def connect(nursery: trio.Nursery) -> Connection:
        stream = await _connect_tls(host, port, context, server_name)
        try:
            identity = _peer_identity(stream, hello, distrusted)
            peer = Caller(identity=identity, address=address, certificate=stream.peer_certificate_der)
            return await establish(nursery, stream, is_dialer=True, hello=hello, peer=peer, router=router or no_calls())
        except LinkLost as error:
            raise _tls_refusal(stream, address) or Unavailable(f"no connection to {address}: {error}") from error
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise

    async with _connection(connect, address, timeout_s, now) as connection:
        yield connection


@asynccontextmanager
async def connect_socket(
    path: Path, hello: Hello, *, router: Router | None = None, timeout_s: float = HANDSHAKE_S_MAX
) -> AsyncIterator[Connection]:
    """A connection to a control socket. Raises `Unavailable`."""

    async def connect(nursery: trio.Nursery) -> Connection:
        try:
            stream = await trio.open_unix_socket(str(path))
        except (OSError, ValueError) as error:
            raise Unavailable(f"cannot connect to {path}: {error}") from error
        # Whoever listens there was let in by the file's mode and owner: as good as a certificate.
        peer = Caller(identity=Identity(node_id="", role=Role.MANAGER, swarm_id=""), is_local=True, address=str(path))
        try:
            return await establish(nursery, stream, is_dialer=True, hello=hello, peer=peer, router=router or no_calls())
        except LinkLost as error:
            raise Unavailable(f"no connection to {path}: {error}") from error

    async with _connection(connect, str(path), timeout_s) as connection:
        yield connection


@asynccontextmanager
async def _connection(
    connect: Callable[[trio.Nursery], Awaitable[Connection]],
    address: str,
    timeout_s: float,
    now: Callable[[], float] | None = None,
) -> AsyncIterator[Connection]:
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        connection: Connection | None = None
        with trio.move_on_after(timeout_s):
            try:
                connection = await connect(nursery)
            except SwarmError as error:
                failure = error
        if connection is not None:
            nursery.start_soon(connection.run)
            if now is not None:
                nursery.start_soon(end_with_certificate, connection, now)
            try:
                yield connection
            except Exception as error:  # noqa: BLE001 - carried past the nursery, which would wrap it in a group
                failure = error
            await connection.aclose()
        else:
            failure = failure or Unavailable(f"no answer from {address} within {timeout_s:g} s")
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`. Raises `Invalid`."""
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise Invalid(f"{address!r} is not host:port", hint="write an IPv6 address as [address]:port")
    if not host or not colon or not _PORT.fullmatch(port) or not 0 < int(port) < 65536:
        raise Invalid(f"{address!r} is not host:port")
    return host, int(port)


async def _connect_tls(host: str, port: int, context: ssl.SSLContext, server_name: str) -> TlsStream:
    try:
        socket = await trio.open_tcp_stream(host, port)
    except OSError as error:
        reason = error.strerror or str(error)
        raise Unavailable(f"cannot connect to {host}:{port}: {reason}") from error
    limit_unacknowledged(socket)
    stream = TlsStream(socket, context, server_name=server_name)
    try:
        await stream.do_handshake()
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        await trio.aclose_forcefully(stream)
        refusal = _tls_refusal(stream, f"{host}:{port}")
        raise refusal or Unavailable(f"{host}:{port} does not speak TLS 1.3 with us: {error}") from error
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


def _peer_identity(stream: TlsStream, hello: Hello, distrusted: frozenset[str]) -> Identity | None:
    identity = identity_of(stream.peer_certificate, stream.peer_certificate_der)
    if identity is not None and hello.swarm and identity.swarm_id != hello.swarm:
        raise Unauthenticated(f"node {identity.node_id} belongs to another swarm")
    if identity is not None and identity.fingerprint in distrusted:
        raise Unauthenticated(f"node {identity.node_id} shows a certificate that was revoked")
    return identity


def _tls_refusal(stream: TlsStream, address: str) -> Unauthenticated | None:
    """What a failed handshake says about identities; None if it failed for another reason.

    In TLS 1.3 the client is done before the server has looked at its certificate: the alert comes with the first read.
    """
    failure = stream.failure
    if isinstance(failure, ssl.SSLCertVerificationError) and failure.verify_code in _UNKNOWN_AUTHORITY:
        return UnknownAuthority(f"{address} is no manager of this swarm: {failure.verify_message}")
    if isinstance(failure, ssl.SSLCertVerificationError):
        return Unauthenticated(
            f"{address} is no manager of this swarm: {failure.verify_message}",
            hint="compare the clocks of both machines" if failure.verify_code in _DATE_PROBLEMS else None,
        )
    if isinstance(failure, ssl.SSLError) and "ALERT" in (failure.reason or ""):
        reason = (failure.reason or "").partition("ALERT_")[2].replace("_", " ").lower()
        return Unauthenticated(
            f"{address} refused this node's certificate or name: {reason}",
            hint="check that the certificate is of this swarm and in date, and the clocks of both machines",
        )
    return None
