from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import trio

from swarmd.errors import FailedPrecondition
from swarmd.model import Role
from swarmd.node import doors as doors_module
from swarmd.node.config import Config
from swarmd.node.doors import Doors
from swarmd.node.identity import StateDirectory
from swarmd.transport.connection import Router
from swarmd.transport.dialer import connect_socket
from swarmd.wire.control import ListServices, StatusRequest
from swarmd.wire.frames import Hello
from swarmd.wire.identity import Identity
from swarmd.wire.methods import SERVICE_LIST, STATUS, WATCH
from swarmd.wire.watch import WatchRequest


class FakeCredentials:
    identity = Identity(node_id="n", role=Role.WORKER, swarm_id="s")


class FakeTransport:
    def hello(self, class_: str = "control") -> Hello:
        return Hello(swarm="s", node="n")


class FakeManager:
    router = Router(lambda method, caller: None)


def doors(path: Path, control_socket: Path | None = None) -> Doors:
    config = Config(control_socket=control_socket)
    directory = StateDirectory(path)
    return Doors(config, directory, cast("Any", FakeCredentials()), cast("Any", FakeTransport()), lambda: "connected")


@pytest.fixture
def default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default path of a machine where nobody serves yet."""
    path = tmp_path / "run" / "swarmd.sock"
    monkeypatch.setattr(doors_module, "DEFAULT_CONTROL_SOCKET", path)
    return path


def occupy(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("somebody's")


def is_socket(path: Path) -> bool:
    return path.is_socket()


async def serves(start: Any, path: Path) -> bool:
    async with trio.open_nursery() as nursery:
        await nursery.start(start)
        answers = is_socket(path)
        nursery.cancel_scope.cancel()
    return answers


async def test_a_manager_serves_at_the_default_path(tmp_path: Path, default: Path) -> None:
    assert await serves(lambda **kw: doors(tmp_path).run_as_manager(cast("Any", FakeManager()), **kw), default)


async def test_a_busy_default_path_gives_way_to_the_state_directorys(tmp_path: Path, default: Path) -> None:
    occupy(default)
    own = tmp_path / "control.sock"
    assert await serves(lambda **kw: doors(tmp_path).run_as_manager(cast("Any", FakeManager()), **kw), own)


async def test_a_busy_path_that_was_asked_for_is_refused(tmp_path: Path, default: Path) -> None:
    asked = tmp_path / "asked.sock"
    occupy(asked)
    with pytest.raises(FailedPrecondition):
        await doors(tmp_path, asked).run_as_manager(cast("Any", FakeManager()))
    assert not is_socket(default)


async def test_a_worker_tells_its_status_and_where_the_rest_is_served(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with trio.open_nursery() as nursery:
        await nursery.start(doors(tmp_path).run_as_worker)
        async with connect_socket(path, Hello()) as connection:
            status = await connection.call(STATUS, StatusRequest())
            assert (status.node_id, status.is_manager, status.session) == ("n", False, "connected")
            with pytest.raises(FailedPrecondition, match="not a manager") as caught:
                await connection.call(SERVICE_LIST, ListServices())
            assert caught.value.hint
            async with connection.open(WATCH, WatchRequest()) as stream:
                with pytest.raises(FailedPrecondition, match="not a manager"):
                    await stream.receive()
        nursery.cancel_scope.cancel()
