"""The Unix socket for `swarmctl`: whoever can open it administers this node, so its file is the gate."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import trio

from swarmd.errors import FailedPrecondition
from swarmd.transport.connection import Connection, Router
from swarmd.transport.establish import establish
from swarmd.transport.serving import ServedConnections
from swarmd.wire.frames import Hello
from swarmd.wire.identity import Caller, Identity

SOCKET_MODE: Final = 0o600
GROUP_SOCKET_MODE: Final = 0o660
GROUP_DIRECTORY_MODE: Final = 0o750
DIRECTORY_MODE: Final = 0o700
BACKLOG: Final = 128
CONNECTIONS_MAX: Final = 1024
_CREDENTIALS: Final = struct.Struct("3i")
"""`struct ucred`: pid, uid, gid."""


def clear_stale(path: Path) -> None:
    """Remove a socket that nobody answers on. Anything else at the path is not ours: raises `FailedPrecondition`."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FailedPrecondition(f"{path} exists and is no socket", hint="remove it, or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0)
        result = probe.connect_ex(str(path))
    # A full backlog (EAGAIN) is somebody too.
    if result in (0, errno.EAGAIN, errno.EINPROGRESS):
        raise FailedPrecondition(
            f"another daemon serves {path}", hint="stop it, or choose another path with --listen-control-api"
        )
    if result not in (errno.ECONNREFUSED, errno.ENOENT):
        raise OSError(result, os.strerror(result))
    path.unlink(missing_ok=True)


class ControlSocket:
    """Serves `router` on a Unix socket, mode 0600 in a directory made 0700 if missing; with a group (gid) whose members
    may administer, 0660 in one made 0750, both of that group.

    A stale socket file is replaced; one that somebody answers on is refused (`FailedPrecondition`). The file is
    removed on the way out.
    """

    def __init__(
        self, path: Path, identity: Identity, router: Router, hello: Callable[[], Hello], *, group: int | None = None
    ) -> None:
        self._path = path
        self._identity = identity
        self._router = router
        self._hello = hello
        self._group = group
        self._served = ServedConnections()
        self._accepted = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Starts once it accepts.

        Raises `FailedPrecondition` when another daemon serves the path or something else than a socket is there.
        """
        listener = self._bind()
        inode = _inode(self._path)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(
                    partial(trio.serve_listeners, self._serve_socket, [listener], handler_nursery=nursery)
                )
                task_status.started()
        finally:
            if inode is not None and _inode(self._path) == inode:
                self._path.unlink(missing_ok=True)

    def _bind(self) -> trio.SocketListener:
        try:
            self._make_directory()
            clear_stale(self._path)
            bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                # Linux gives the file the mode of the unbound socket: at no moment is it open to others.
                os.fchmod(bound.fileno(), SOCKET_MODE)
                bound.bind(str(self._path))
                self._path.chmod(SOCKET_MODE)
                if self._group is not None:
                    os.chown(self._path, -1, self._group, follow_symlinks=False)
                    self._path.chmod(GROUP_SOCKET_MODE)
                bound.listen(BACKLOG)
                bound.settimeout(0)
            except BaseException:
                bound.close()
                raise
        except OSError as error:
            raise FailedPrecondition(
                f"cannot listen on {self._path}: {error.strerror or error}",
                hint="choose another path with --listen-control-api",
            ) from error
        return trio.SocketListener(trio.socket.from_stdlib_socket(bound))

    def _make_directory(self) -> None:
        directory = self._path.parent
        if directory.exists():
            return
        directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        if self._group is not None:
            os.chown(directory, -1, self._group)
            directory.chmod(GROUP_DIRECTORY_MODE)

    async def _serve_socket(self, stream: trio.SocketStream) -> None:
        if self._accepted >= CONNECTIONS_MAX:
            await trio.aclose_forcefully(stream)
            return
        self._accepted += 1
        try:
            pid, uid, gid = _peer_credentials(stream)
            peer = Caller(
                identity=self._identity, is_local=True, address=f"local user {uid}", uid=uid, gid=gid, pid=pid
            )
            await self._served.serve(stream, peer.address, partial(self._greet, stream, peer))
        finally:
            self._accepted -= 1

    async def _greet(self, stream: trio.SocketStream, peer: Caller, nursery: trio.Nursery) -> Connection:
        return await establish(nursery, stream, is_dialer=False, hello=self._hello(), peer=peer, router=self._router)


def _peer_credentials(stream: trio.SocketStream) -> tuple[int, int, int]:
    """pid, uid and gid of who connected, as the kernel says (unix(7), SO_PEERCRED)."""
    raw = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return pid, uid, gid


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
