"""Managers of this machine and user leave the worker token where a joiner of the same user finds it.

Who may read the file may join: its permissions are the authentication. The place holds one file for each network
namespace and listening port, because that is what an address on this machine means.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import secrets
import socket
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

DIRECTORY_MODE: Final = 0o700
FILE_MODE: Final = 0o600
TOKEN_BYTES_MAX: Final = 256
OTHERS: Final = 0o077


def places(environment: Mapping[str, str], uid: int) -> tuple[Path, ...]:
    """Where the files may be, the best first."""
    found = []
    if environment.get("XDG_RUNTIME_DIR", "").startswith("/"):
        found.append(Path(environment["XDG_RUNTIME_DIR"]) / "swarmd")
    found.append(Path("/run/swarmd") if uid == 0 else Path(f"/tmp/swarmd-{uid}"))
    return tuple(dict.fromkeys(found))


def file_name(port: int) -> str:
    """For a port of this process's network namespace. Raises `OSError`."""
    return f"{os.stat('/proc/self/ns/net').st_ino}-{port}.token"


def leave_token(token: str, port: int, directories: Sequence[Path]) -> Path | None:
    """Write the token where a neighbour looks first that can be used. Blocking.

    None, with a warning, if no place can be: then neighbours join as others do.
    """
    for directory in directories:
        try:
            _make_own(directory)
            path = directory / file_name(port)
            _replace(path, token)
        except OSError as error:
            log.info("no join token is left in %s: %s", directory, error)
        else:
            return path
    log.warning("joining without a token on this machine needs `swarmctl node accept`: no runtime directory is usable")
    return None


def find_token(port: int, directories: Sequence[Path]) -> str | None:
    """The token that a manager with this port left, if it and its place are this user's alone. Blocking."""
    for directory in directories:
        with contextlib.suppress(OSError):
            if _is_own(os.lstat(directory), stat.S_ISDIR):
                token = _read_own(directory / file_name(port))
                if token:
                    return token
    return None


def is_own_address(host: str) -> bool:
    """Whether `host` means this machine: loopback, or an address that can be bound here. Blocking (a look-up)."""
    with contextlib.suppress(OSError):
        for family, kind, protocol, _, address in socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM):
            if ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
                return True
            with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as probe:
                probe.bind(address)
                return not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_unspecified
    return False


def _make_own(directory: Path) -> None:
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=DIRECTORY_MODE)
    if not _is_own(os.lstat(directory), stat.S_ISDIR):
        raise PermissionError(f"{directory} is not a directory of this user alone")


def _is_own(status: os.stat_result, is_kind: Callable[[int], bool]) -> bool:
    return is_kind(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & OTHERS


def _replace(path: Path, token: str) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(token)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _read_own(path: Path) -> str | None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not _is_own(os.fstat(descriptor), stat.S_ISREG):
            return None
        return file.read(TOKEN_BYTES_MAX + 1).decode(errors="replace").strip()
