"""What somebody has who means harm: files of nodes, certificates of any making, and sockets that keep no rules."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from swarmd.errors import SwarmError, Unauthenticated, Unavailable
from swarmd.model import Role
from swarmd.pki import CA_SERVER_NAME, Authority, new_key_and_csr
from swarmd.transport.connection import Connection
from swarmd.transport.credentials import SERVER_NAME, joining_context
from swarmd.transport.establish import establish, no_calls
from swarmd.transport.link import LinkLost
from swarmd.transport.tls import TlsStream
from swarmd.wire.codec import convert
from swarmd.wire.frames import HANDSHAKE_S_MAX, NO_HEADERS, Headers, Hello
from swarmd.wire.identity import Caller, Identity
from swarmd.wire.methods import Method, Shape
from tests.e2e.machines import Machine

DAY: Final = 86_400.0


class Known(msgspec.Struct, kw_only=True):
    """What the swarm keeps to itself, read from a stopped manager's disk."""

    swarm_id: str
    root: bytes
    root_key: bytes
    csr_of: dict[str, bytes]


def read_secrets(machine: Machine) -> Known:
    """Of a manager that is stopped."""
    done = subprocess.run(
        [sys.executable, "-m", "swarmd", "raft", "dump", "--objects", "--unredacted", str(machine.state_dir)],
        capture_output=True,
        text=True,
        check=True,
    )
    objects = [json.loads(line) for line in done.stdout.splitlines()]
    cluster = next(o["object"] for o in objects if o.get("table") == "CLUSTER")
    nodes = [o["object"] for o in objects if o.get("table") == "NODE"]
    return Known(
        swarm_id=cluster["id"],
        root=cluster["root_ca"]["certificate"].encode(),
        root_key=cluster["root_ca"]["key"].encode(),
        csr_of={node["id"]: node["certificate"]["csr"].encode() for node in nodes},
    )


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate, its key, and the root that is trusted (PEM)."""

    certificate: bytes
    key: bytes
    root: bytes

    def context(self) -> ssl.SSLContext:
        """Shows the certificate, whatever is wrong with it, to a manager of `root`."""
        context = joining_context(self.root)
        with _file(self.certificate + self.key) as path:
            context.load_cert_chain(path)
        return context


def copied_pair(machine: Machine) -> Pair:
    """What stands in a node's state directory."""
    files = machine.state_dir / "certificates"
    return Pair(
        certificate=(files / "swarm-node.crt").read_bytes(),
        key=(files / "swarm-node.key").read_bytes(),
        root=(files / "swarm-root-ca.crt").read_bytes(),
    )


def made_pair(
    authority: Authority, root: bytes, *, node_id: str, role: Role, swarm_id: str, at: float = 0.0, life_s: float = DAY
) -> Pair:
    """A certificate as the swarm would make it: by its own authority or by another, `at` seconds from now."""
    key, csr = new_key_and_csr()
    certificate = authority.sign(
        csr, node_id=node_id, role=role, swarm_id=swarm_id, now=time.time() + at, expiry_s=life_s
    )
    return Pair(certificate=certificate, key=key, root=root)


@asynccontextmanager
async def reach(
    port: int,
    root: bytes | None,
    pair: Pair | None = None,
    *,
    source: str = "127.0.0.1",
    frame_bytes_max: int = 8 << 20,
) -> AsyncIterator[Connection]:
    """A greeted connection from the loopback address `source`, of somebody who claims nothing in HELLO."""
    context = pair.context() if pair is not None else joining_context(root)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        connection = None
        with trio.move_on_after(HANDSHAKE_S_MAX):
            stream = await trio.open_tcp_stream("127.0.0.1", port, local_address=source)
            tls = TlsStream(stream, context, server_name=CA_SERVER_NAME if pair is None else SERVER_NAME)
            try:
                await tls.do_handshake()
                # As at a socket: whoever answers is believed to be who he says.
                peer = Caller(
                    identity=Identity(node_id="", role=Role.MANAGER, swarm_id=""), is_local=True, address=source
                )
                connection = await establish(nursery, tls, is_dialer=True, hello=Hello(), peer=peer, router=no_calls())
            except (LinkLost, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                reason = getattr(tls.failure, "reason", "") or ""
                failure = (
                    Unauthenticated(reason) if "ALERT" in reason or "CERTIFICATE" in reason else Unavailable(str(error))
                )
            except SwarmError as error:
                failure = error
        if connection is not None:
            nursery.start_soon(connection.run)
            try:
                yield connection
            except Exception as error:  # noqa: BLE001 - carried past the nursery, which would wrap it in a group
                failure = error
            await connection.aclose()
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if connection is None:
        raise Unavailable("no answer within the handshake's time")


async def ask(connection: Connection, method: Method[Any, Any], body: Any, headers: Headers = NO_HEADERS) -> Any:
    """One call with any body at all; what the method says of its request is not looked at."""
    plain: Method[Any, Any] = Method(method.name, dict, dict, roles=method.roles, shape=Shape.UNARY)
    reply = await connection.call(plain, body, headers=headers)
    return convert(reply, method.response)


async def refusal(
    connection: Connection, method: Method[Any, Any], body: Any, headers: Headers = NO_HEADERS
) -> SwarmError | None:
    """How a call is refused; None if it is answered."""
    try:
        await ask(connection, method, body, headers)
    except SwarmError as error:
        return error
    return None


async def refused_at(
    port: int, pair: Pair, method: Method[Any, Any], body: Any, headers: Headers = NO_HEADERS
) -> SwarmError | None:
    """The same on a connection of its own, which may be refused as well."""
    try:
        async with reach(port, None, pair) as connection:
            return await refusal(connection, method, body, headers)
    except SwarmError as error:
        return error


def _file(content: bytes) -> Any:
    from swarmd.transport.credentials import _in_memory

    return _in_memory(content)


def in_trio(main: Callable[[], Any]) -> Any:
    """Run it, for at most a minute."""

    async def limited() -> Any:
        with trio.fail_after(60):
            return await main()

    return trio.run(limited)


def logs(machines: list[Machine]) -> dict[str, str]:
    """What each daemon has said."""
    return {machine.name: machine.log.read_text(errors="replace") for machine in machines}


def token_file(machine: Machine, port: int) -> Path:
    """Where a manager leaves the worker token for neighbours."""
    from swarmd.node.neighbours import file_name

    return Path(machine.env["XDG_RUNTIME_DIR"]) / "swarmd" / file_name(port)
