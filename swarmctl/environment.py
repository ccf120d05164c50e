"""The world outside: clocks, dice, streams and the way to a daemon. Passed in, so that tests have their own."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TextIO, TypeVar

from swarmd.wire.frames import Headers
from swarmd.wire.methods import Method

Req = TypeVar("Req")
Resp = TypeVar("Resp")

DEFAULT_SOCKET = Path("/var/run/swarmd.sock")
CONNECT_S_MAX = 5.0


class Link(Protocol):
    """An open connection: `transport.blocking.BlockingConnection`, or a test's."""

    def call(self, method: Method[Req, Resp], request: Req, *, timeout_s: float, headers: Headers) -> Resp:
        """Raises the server's error, `DeadlineExceeded`, `Unavailable`."""
        ...

    def stream(self, method: Method[Req, Resp], request: Req, *, silence_s: float, headers: Headers) -> Iterator[Resp]:
        """The messages of a server stream. Raises as `call`, and `Unavailable` after `silence_s` without one."""
        ...

    def close(self) -> None: ...


def connect(path: Path) -> Link:
    """The daemon behind a control socket. Raises `Unavailable` with a hint."""
    from swarmd.transport.blocking import BlockingConnection  # as late as its first use: see DESIGN.md

    return BlockingConnection.connect(path, timeout_s=CONNECT_S_MAX)


def _read_secret(prompt: str) -> str:
    from getpass import getpass  # as late as its first use

    try:
        return getpass(prompt, stream=sys.stderr)
    except EOFError:
        return ""


def _write_bytes(data: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What a command may touch."""

    connect: Callable[[Path], Link] = connect
    variables: Mapping[str, str] = field(default_factory=lambda: os.environ)
    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)
    is_terminal: Callable[[], bool] = lambda: sys.stdin.isatty() and sys.stderr.isatty()
    """Whether somebody is there to be asked."""
    read_line: Callable[[], str] = lambda: sys.stdin.readline()
    read_secret: Callable[[str], str] = _read_secret
    """Asks with this prompt, and what is typed is not shown."""
    read_bytes: Callable[[int], bytes] = lambda count: sys.stdin.buffer.read(count)
    """At most so many bytes of standard input."""
    write_bytes: Callable[[bytes], object] = _write_bytes
    """A result that is no text."""
    now: Callable[[], float] = time.time  # noqa: TID251 - the edge that injects it
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep  # noqa: TID251 - a command line has no events to wait for
    random_bytes: Callable[[int], bytes] = os.urandom
