"""A listener that refuses says why and closes at once: whoever was about to greet it reads that all the same."""

from __future__ import annotations

from typing import Any, cast

import pytest
import trio

from swarmd.errors import PermissionDenied
from swarmd.transport.connection import Connection
from swarmd.transport.establish import no_calls
from swarmd.transport.link import LinkLost
from swarmd.transport.session import AUTHENTICATED, Session
from swarmd.wire.frames import ErrorBody, ErrorFrame, Hello, encode_frame
from swarmd.wire.identity import Caller


class ClosedLink:
    """Takes nothing any more; what came before is there to be read."""

    def __init__(self, *frames: bytes) -> None:
        self._frames = list(frames)

    async def send(self, frames: Any) -> None:
        await trio.lowlevel.checkpoint()
        raise LinkLost("the connection was lost")

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self._frames:
            raise LinkLost("the connection was lost")
        return self._frames.pop(0)


def _connection(link: ClosedLink) -> Connection:
    session = Session(is_dialer=True, hello=Hello(), limits=AUTHENTICATED)
    return Connection(cast("Any", link), session, Caller(), no_calls())


async def test_the_refusal_is_read_where_the_greeting_cannot_be_said() -> None:
    refusal = ErrorFrame(0, ErrorBody(kind="permission_denied", message="node m2 was removed from the swarm"))
    with pytest.raises(PermissionDenied, match="was removed"):
        await _connection(ClosedLink(encode_frame(refusal))).greet()


async def test_a_link_that_was_lost_without_a_word_is_lost() -> None:
    with pytest.raises(LinkLost):
        await _connection(ClosedLink()).greet()
