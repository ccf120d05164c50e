from __future__ import annotations

from typing import Any, cast

import pytest
import trio

from swarmd.errors import FailedPrecondition
from swarmd.node.config import DEFAULT_HOST, DEFAULT_PORT, Config, Endpoint
from swarmd.node.transport import FirstFree, endpoints

DEFAULT = Endpoint(DEFAULT_HOST, DEFAULT_PORT)


@pytest.mark.parametrize(
    ("listen", "remembered", "expected"),
    [
        (None, 0, (DEFAULT, Endpoint(DEFAULT_HOST, 0))),
        (None, 5000, (Endpoint(DEFAULT_HOST, 5000), Endpoint(DEFAULT_HOST, 0))),
        (Endpoint("127.0.0.1", 4300), 5000, (Endpoint("127.0.0.1", 4300),)),
        (Endpoint("127.0.0.1", 0), 0, (Endpoint("127.0.0.1", 0),)),
        (Endpoint("127.0.0.1", 0), 5000, (Endpoint("127.0.0.1", 5000), Endpoint("127.0.0.1", 0))),
    ],
    ids=["default", "default, chosen before", "asked for", "any", "any, chosen before"],
)
def test_only_a_port_that_was_not_asked_for_gives_way(
    listen: Endpoint | None, remembered: int, expected: tuple[Endpoint, ...]
) -> None:
    assert endpoints(Config(listen=listen), remembered) == expected


class FakeListener:
    def __init__(self, port: int, *, is_busy: bool = False) -> None:
        self.port = port
        self.is_busy = is_busy
        self.connections = frozenset((f"a connection to {port}",))

    async def run(self, *, task_status: trio.TaskStatus[int]) -> None:
        await trio.lowlevel.checkpoint()
        if self.is_busy:
            raise FailedPrecondition(f"the address *:{self.port} is in use")
        task_status.started(self.port)
        await trio.sleep_forever()


async def start(*listeners: FakeListener) -> int:
    async with trio.open_nursery() as nursery:
        port: int = await nursery.start(FirstFree(cast("Any", listeners)).run)
        nursery.cancel_scope.cancel()
    return port


async def test_the_first_that_is_free_is_listened_at() -> None:
    assert await start(FakeListener(1), FakeListener(2)) == 1
    assert await start(FakeListener(1, is_busy=True), FakeListener(2)) == 2


async def test_if_none_is_free_the_last_one_says_why() -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(FailedPrecondition, match="2 is in use")):
        await start(FakeListener(1, is_busy=True), FakeListener(2, is_busy=True))


def test_connections_are_those_of_every_listener() -> None:
    listeners = FakeListener(1), FakeListener(2)
    door = FirstFree(cast("Any", listeners))
    assert cast("Any", door.connections) == {"a connection to 1", "a connection to 2"}
