"""The control socket of a daemon whose operators are a group; what the kernel says of who connects."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from swarmd.errors import Invalid
from swarmd.model import Role
from swarmd.node.config import parse_group
from swarmd.transport.connection import Call, Router
from swarmd.transport.control_socket import ControlSocket
from swarmd.transport.dialer import connect_socket
from swarmd.wire.authorise import CertificatesOnly, authorise
from swarmd.wire.control import StatusReply, StatusRequest
from swarmd.wire.frames import Hello
from swarmd.wire.identity import Caller, Identity
from swarmd.wire.methods import STATUS

IDENTITY = Identity(node_id="m1", role=Role.MANAGER, swarm_id="s")
NOBODY = 65534
GROUP = 54321

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to other groups and becomes another user")

CONNECT = """
import os, socket, sys
os.setgroups([int(g) for g in sys.argv[2].split(",") if g])
os.setgid(65534)
os.setuid(65534)
try:
    socket.socket(socket.AF_UNIX).connect(sys.argv[1])
except PermissionError:
    sys.exit(13)
"""


def _socket(path: Path, callers: list[Caller], group: int | None) -> ControlSocket:
    async def status(call: Call, request: StatusRequest) -> StatusReply:
        callers.append(call.caller)
        await trio.lowlevel.checkpoint()
        return StatusReply(node_id="m1", swarm_id="s", version="1")

    router = Router(lambda m, c: authorise(m, c, CertificatesOnly("s")))
    router.add(STATUS, status)
    return ControlSocket(path, IDENTITY, router, Hello, group=group)


async def _status_of_connect(path: Path, groups: str = "") -> int:
    def run() -> int:
        return subprocess.run([sys.executable, "-c", CONNECT, str(path), groups], check=False).returncode

    return await trio.to_thread.run_sync(run)


@as_root
@pytest.mark.parametrize(
    ("group", "groups", "status"), [(None, "", 13), (None, f"{GROUP}", 13), (GROUP, "", 13), (GROUP, f"{GROUP}", 0)]
)
async def test_another_user_comes_in_through_the_group_only(
    tmp_path: Path, group: int | None, groups: str, status: int
) -> None:
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.getuid() and not parent.stat().st_mode & stat.S_IXOTH:
            parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
    path = tmp_path / "swarmd.sock"
    async with trio.open_nursery() as nursery:
        await nursery.start(_socket(path, [], group).run)
        assert await _status_of_connect(path, groups) == status
        nursery.cancel_scope.cancel()


@as_root
async def test_socket_and_new_directory_belong_to_the_group(tmp_path: Path) -> None:
    path = tmp_path / "made" / "swarmd.sock"
    async with trio.open_nursery() as nursery:
        await nursery.start(_socket(path, [], GROUP).run)
        assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_gid) == (0o660, GROUP)
        assert (stat.S_IMODE(path.parent.stat().st_mode), path.parent.stat().st_gid) == (0o750, GROUP)
        nursery.cancel_scope.cancel()


async def test_the_kernels_word_on_who_connects_is_kept(tmp_path: Path) -> None:
    callers: list[Caller] = []
    path = tmp_path / "swarmd.sock"
    async with trio.open_nursery() as nursery:
        await nursery.start(_socket(path, callers, None).run)
        async with connect_socket(path, Hello()) as connection:
            await connection.call(STATUS, StatusRequest())
        nursery.cancel_scope.cancel()
    assert (callers[0].uid, callers[0].gid, callers[0].pid) == (os.geteuid(), os.getegid(), os.getpid())


async def test_a_symlink_at_the_path_is_left_alone_even_to_a_dead_socket(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link.sock"
    target.write_text("precious")
    link.symlink_to(target)
    with pytest.RaisesGroup(pytest.RaisesExc(Exception, match="is no socket"), allow_unwrapped=True):
        await _socket(link, [], None).run()
    assert target.read_text() == "precious"
    assert link.is_symlink()


def test_a_group_is_named_or_numbered() -> None:
    assert parse_group("root") == 0
    assert parse_group("54321") == GROUP
    for wrong in ("1" * 5000, "no-such-group", "", "-1", "4294967295", "\uff19"):
        with pytest.raises(Invalid, match="there is no group") as refusal:
            parse_group(wrong)
        assert refusal.value.field == "--control-group"
