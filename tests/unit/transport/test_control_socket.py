"""The control socket: who may open it, what it replaces, what it leaves behind."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from swarmd.errors import FailedPrecondition, PermissionDenied, Unavailable
from swarmd.model import Role
from swarmd.transport.connection import Call, Router
from swarmd.transport.control_socket import ControlSocket
from swarmd.transport.dialer import connect_socket
from swarmd.wire.authorise import CertificatesOnly, authorise
from swarmd.wire.control import StatusReply, StatusRequest
from swarmd.wire.frames import Headers, Hello
from swarmd.wire.identity import Caller, ForwardedCaller, Identity
from swarmd.wire.methods import RAFT_JOIN, STATUS
from swarmd.wire.peer import JoinRequest

IDENTITY = Identity(node_id="m1", role=Role.MANAGER, swarm_id="s")
HELLO = Hello()


@asynccontextmanager
async def served(path: Path, callers: list[Caller] | None = None) -> AsyncIterator[ControlSocket]:
    async def status(call: Call, request: StatusRequest) -> StatusReply:
        if callers is not None:
            callers.append(call.caller)
        return StatusReply(node_id="m1", swarm_id="s", version="1")

    router = Router(lambda m, c: authorise(m, c, CertificatesOnly("s")))
    router.add(STATUS, status)
    control = ControlSocket(path, IDENTITY, router, Hello)
    async with trio.open_nursery() as nursery:
        await nursery.start(control.run)
        yield control
        nursery.cancel_scope.cancel()


async def test_the_caller_is_this_node_and_its_user_is_known(tmp_path: Path) -> None:
    callers: list[Caller] = []
    path = tmp_path / "swarmd.sock"
    async with served(path, callers), connect_socket(path, HELLO) as connection:
        await connection.call(STATUS, StatusRequest())
    assert callers[0].identity == IDENTITY
    assert callers[0].is_local
    assert callers[0].uid == os.geteuid()
    assert callers[0].actor == f"operator@m1 uid:{os.getuid()}"


async def test_file_and_directory_are_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "made" / "swarmd.sock"
    async with served(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_directory_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o755)
    async with served(tmp_path / "swarmd.sock"):
        assert stat.S_IMODE(os.stat(tmp_path).st_mode) == 0o755


async def test_only_methods_of_the_socket_are_served(tmp_path: Path) -> None:
    path = tmp_path / "s"
    forged = Headers(forwarded=ForwardedCaller(node_id="m2", role=Role.MANAGER, swarm_id="s"))
    async with served(path), connect_socket(path, HELLO) as connection:
        with pytest.raises(PermissionDenied, match="control socket"):
            await connection.call(RAFT_JOIN, JoinRequest(addresses=(), incarnation=b""))
        with pytest.raises(PermissionDenied):
            await connection.call(STATUS, StatusRequest(), headers=forged)


async def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with served(path), connect_socket(path, HELLO) as connection:
        await connection.call(STATUS, StatusRequest())


async def test_a_live_socket_is_never_stolen(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with served(path):
        second = ControlSocket(path, IDENTITY, Router(lambda _m, _c: None), Hello)
        with pytest.raises(FailedPrecondition, match="another daemon"):
            await second.run()
        async with connect_socket(path, HELLO) as connection:
            await connection.call(STATUS, StatusRequest())


async def test_anything_but_a_socket_is_left_alone(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("precious")
    link.symlink_to(file)
    for path in (file, link):
        with pytest.raises(FailedPrecondition, match="no socket"):
            await ControlSocket(path, IDENTITY, Router(lambda _m, _c: None), Hello).run()
    assert file.read_text() == "precious"


async def test_a_path_that_cannot_be_bound_is_a_failed_precondition(tmp_path: Path) -> None:
    for path in (tmp_path / ("x" * 200), Path("/proc/no/such")):
        with pytest.raises(FailedPrecondition, match="cannot listen"):
            await ControlSocket(path, IDENTITY, Router(lambda _m, _c: None), Hello).run()


async def test_the_file_goes_with_the_daemon_unless_it_is_anothers(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with served(path):
        assert path.exists()
    assert not path.exists()
    async with served(path):
        path.unlink()
        path.write_text("somebody else's by now")
    assert path.exists()


async def test_no_socket_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot connect"):
        async with connect_socket(tmp_path / "none", HELLO):
            pass


async def test_hostile_bytes_end_one_connection(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with served(path), connect_socket(path, HELLO) as neighbour:
        for data in (b"", b"\x00" * 64, b"GET / HTTP/1.1\r\n\r\n"):
            async with await trio.open_unix_socket(str(path)) as stream:
                await stream.send_all(data)
        await neighbour.call(STATUS, StatusRequest())
