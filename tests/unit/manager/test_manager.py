"""A whole manager on real files, without sockets: its doors before and after the log is open, and its end."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing

from swarmd.errors import PermissionDenied, ResourceExhausted, Unavailable, Unimplemented
from swarmd.manager import assembly, disk_return
from swarmd.manager.disk_health import DiskHealth
from swarmd.manager.manager import Manager, Surroundings
from swarmd.model import Node, RaftConfig
from swarmd.node.founding import FEATURES, Founding, found, make_log_durable, sealer_of
from swarmd.raft import Settings
from swarmd.storage import data_keys
from swarmd.storage.disk_keys import DiskKeys
from swarmd.storage.disk_seal import DiskSeal
from swarmd.storage.errors import StorageFailed, StorageFull
from swarmd.storage.identity_files import IdentityFiles
from swarmd.storage.key_file import KeyFile
from swarmd.storage.log_store import LogStore
from swarmd.storage.reserve import Space
from swarmd.transport.connection import Call, Connection, Router
from swarmd.transport.credentials import Credentials
from swarmd.wire import control
from swarmd.wire.disk import DiskCondition
from swarmd.wire.frames import NO_HEADERS
from swarmd.wire.identity import Caller
from swarmd.wire.methods import NODE_LIST, RAFT_JOIN, RAFT_ROTATE_KEY, SERVICE_CREATE, STATUS, WATCH, Method, Shape
from swarmd.wire.raft_status import RotateKey
from swarmd.wire.watch import WatchRequest
from tests.unit.manager.control_api.api_world import service_spec
from tests.unit.manager.local_store import EPOCH

ADDRESS = ("10.0.0.1:4242",)


class FakeDoor:
    def __init__(self, router: Router, *, admit: Any, on_connection: Any) -> None:
        self.router = router
        self.connections: frozenset[Connection] = frozenset()

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started(4242)
        await trio.sleep_forever()


class World:
    """The surroundings of one manager in a directory."""

    def __init__(self, path: Path, founding: Founding) -> None:
        identity = founding.identity
        self.directory = path / "raft"
        self.keys = path / "keys.cbor"
        self.credentials = Credentials(certificate=identity.certificate, key=identity.key, root=identity.root)
        self.refusal: Exception = Unavailable("nobody there")
        self.dialed = trio.Event()
        self.disk = DiskHealth(lambda: EPOCH)

    @asynccontextmanager
    async def _dial(self, address: str, class_: str = "control", *, router: Router | None = None) -> AsyncIterator[Any]:
        self.dialed.set()
        await trio.lowlevel.checkpoint()
        raise self.refusal
        yield

    def manager(self) -> Manager:
        async def advertised(port: int) -> tuple[str, ...]:
            await trio.lowlevel.checkpoint()
            return ADDRESS

        dial: Callable[..., AbstractAsyncContextManager[Connection]] = self._dial
        seal = DiskSeal()
        return Manager(
            Surroundings(
                directory=self.directory,
                sealer_of=partial(sealer_of, keys_path=self.keys, random_bytes=os.urandom, seal=seal),
                credentials=self.credentials,
                listener_of=cast("Any", FakeDoor),
                dial=dial,
                advertised=advertised,
                known_addresses=lambda: ("10.0.0.2:4242",),
                session=lambda: "connecting",
                settings=Settings(),
                features=FEATURES,
                disk_keys=DiskKeys(
                    IdentityFiles(self.directory.parent / "certificates", seal), self.keys, self.directory, seal
                ),
                renew=lambda: None,
                disk=self.disk,
                now=lambda: EPOCH,
                rng=random.Random(1),
            )
        )


@pytest.fixture
def founding() -> Founding:
    return found(raft=RaftConfig(), now=EPOCH, rng=random.Random(1))


@pytest.fixture
def world(tmp_path: Path, founding: Founding) -> World:
    return World(tmp_path, founding)


async def ask(manager: Manager, method: Method[Any, Any], request: Any) -> Any:
    caller = Caller(identity=manager._identity, is_local=True)
    handler = cast("Any", manager.router.admit(method, caller))
    stream = () if method.shape is Shape.UNARY else (None,)
    return await handler(Call(method, caller, NO_HEADERS, float("inf")), request, *stream)


@asynccontextmanager
async def running(manager: Manager) -> AsyncIterator[trio.Nursery]:
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(manager.run)
            yield nursery
            nursery.cancel_scope.cancel()


async def until_leading(manager: Manager) -> None:
    await manager.log_is_open.wait()
    assert manager.parts is not None
    driver = manager.parts.driver
    while not driver.is_leading or manager.parts.dispatcher is None:
        await driver.changed.wait()
        await trio.testing.wait_all_tasks_blocked()


def make_durable(world: World, founding: Founding) -> None:
    make_log_durable(founding, raft_directory=world.directory, keys_path=world.keys, random_bytes=os.urandom)


async def test_a_founder_leads_and_announces_where_it_answers(world: World, founding: Founding) -> None:
    make_durable(world, founding)
    manager = world.manager()
    assert manager.local_link() is None
    assert manager.local_ca() is None
    async with running(manager):
        await until_leading(manager)
        assert manager.parts is not None
        driver = manager.parts.driver
        while not (members := driver.configuration.members) or members[0].addresses != ADDRESS:
            await driver.changed.wait()
        status = await ask(manager, STATUS, control.StatusRequest())
        assert (status.is_leader, status.remote_addresses) == (True, ADDRESS)
        assert manager.local_link() is not None
        assert manager.local_ca() is not None
        await manager.hand_over()  # nobody is there, and that is said, not raised
    assert manager.parts is None


async def test_what_was_acknowledged_is_there_in_the_next_life(world: World, founding: Founding) -> None:
    make_durable(world, founding)
    manager = world.manager()
    async with running(manager):
        await until_leading(manager)
        assert manager.parts is not None
        await manager.parts.store.update(lambda tx: tx.create(Node(id="kept")), actor="test")
    again = world.manager()
    async with running(again):
        await until_leading(again)
        assert again.parts is not None
        assert again.parts.driver.state.node("kept") is not None


async def test_a_data_key_is_rotated_at_the_door_and_a_rotation_cut_short_is_finished_by_the_next_life(
    world: World, founding: Founding
) -> None:
    make_durable(world, founding)
    async with running(manager := world.manager()):
        await until_leading(manager)
        rotated = await ask(manager, RAFT_ROTATE_KEY, RotateKey())
        assert (rotated.key, rotated.old_keys) == (2, ())
        assert manager.parts is not None
        await manager.parts.store.update(lambda tx: tx.create(Node(id="kept")), actor="test")
    KeyFile(world.keys, os.urandom).rotate()  # and then the power failed
    async with running(again := world.manager()):
        await until_leading(again)
        assert again.parts is not None
        await again.parts.key_rotation.until_finished()
        assert again.parts.driver.state.node("kept") is not None
    keys = data_keys.load(world.keys)
    assert keys is not None
    assert set(keys.by_id) == {3}


async def test_a_manager_that_waits_to_join_serves_status_and_says_what_it_waits_for(world: World) -> None:
    manager = world.manager()
    async with running(manager):
        await world.dialed.wait()
        status = await ask(manager, STATUS, control.StatusRequest())
        assert (status.is_manager, status.leader_node_id) == (True, "")
        with pytest.raises(Unavailable, match="has not joined"):
            await ask(manager, NODE_LIST, control.ListNodes())
        with pytest.raises(Unavailable, match="has not joined"):
            await ask(manager, WATCH, WatchRequest())
        assert not manager.log_is_open.is_set()
    assert not world.directory.exists()


async def test_a_refused_join_leaves_the_empty_log_closed_for_the_next_try(world: World, founding: Founding) -> None:
    sealer = partial(sealer_of, keys_path=world.keys, random_bytes=os.urandom)
    assembly.create(world.directory, founding.log_identity, sealer(founding.log_identity)).store.close()
    world.refusal = PermissionDenied("this node is not (any more) a manager")
    for _ in range(2):
        with pytest.RaisesGroup(PermissionDenied):
            await world.manager().run()
    opened = assembly.open_existing(world.directory, sealer)
    assert opened is not None
    opened.store.close()


async def test_before_it_takes_part_nobody_can_join_through_it(world: World) -> None:
    manager = world.manager()
    with pytest.raises(Unimplemented):
        manager.router.admit(RAFT_JOIN, Caller(identity=manager._identity))


async def test_a_manager_waits_for_its_disk_with_open_doors_and_says_for_what(
    world: World, founding: Founding, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_durable(world, founding)
    refusal: list[StorageFull] = [StorageFull("no space for raft.db")]

    def probe(place: Path) -> None:
        for error in refusal:
            raise error

    monkeypatch.setattr(disk_return, "probe", probe)
    monkeypatch.setattr(disk_return, "LOOK_S_MAX", 0.01)
    world.disk.note_failure(refusal[0])
    manager = world.manager()
    async with running(manager):
        assert (await ask(manager, STATUS, control.StatusRequest())).is_manager
        with pytest.raises(Unavailable, match="while its disk refuses: no space for") as caught:
            await ask(manager, NODE_LIST, control.ListNodes())
        assert caught.value.hint
        assert manager.parts is None
        refusal.clear()
        await until_leading(manager)
        assert world.disk.failure is None


async def test_a_log_that_takes_no_write_after_a_fresh_open_is_left_closed_for_the_next_try(
    world: World, founding: Founding, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_durable(world, founding)

    def refuse(store: LogStore) -> None:
        raise StorageFailed("a sync failed again")

    with monkeypatch.context() as patched:
        patched.setattr(LogStore, "settle", refuse)
        for _ in range(2):
            with pytest.RaisesGroup(StorageFailed, flatten_subgroups=True):
                await world.manager().run()
    manager = world.manager()
    async with running(manager):
        await until_leading(manager)


async def test_what_it_tells_of_its_disk_is_shown_with_its_node(world: World, founding: Founding) -> None:
    make_durable(world, founding)
    manager = world.manager()
    async with running(manager):
        await until_leading(manager)
        world.disk.note_space(Space(0, 1 << 30))  # the guard looked just now, and again in five seconds
        shown = await ask(manager, NODE_LIST, control.ListNodes())
        (view,) = [view for view in shown.nodes if view.manager is not None]
        assert view.manager is not None
        assert view.manager.disk is not None
        assert view.manager.disk.condition is DiskCondition.CRITICAL
        with pytest.raises(ResourceExhausted, match="of 1024 MiB free"):
            await ask(manager, SERVICE_CREATE, control.CreateService(spec=service_spec()))
