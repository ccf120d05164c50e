"""A small blocking client for the control socket, free of Trio so that `swarmctl` starts fast (wsproto + socket)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Self, TypeVar

from swarmd.wire.frames import Headers
from swarmd.wire.methods import Method

Req = TypeVar("Req")
Resp = TypeVar("Resp")


class BlockingConnection:
    """One connection, one call at a time."""

    @classmethod
    def connect(cls, path: Path, *, timeout_s: float = 5.0) -> Self:
        """Raises `Unavailable` with a hint: missing socket, nobody listening, not permitted."""
        raise NotImplementedError

    def call(
        self,
        method: Method[Req, Resp],
        request: Req,
        *,
        timeout_s: float = 15.0,
        headers: Headers = Headers(),
    ) -> Resp:
        """Raises the server's error, `DeadlineExceeded`, `Unavailable`."""
        raise NotImplementedError

    def stream(self, method: Method[Req, Resp], request: Req, *, timeout_s: float | None = None) -> Iterator[Resp]:
        """Messages of a server stream until its end."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
