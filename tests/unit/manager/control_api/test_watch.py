"""`watch` over a real connection: where it runs from, what travels, what does not, and how slow clients end."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from swarmd.errors import Gone, Invalid, PermissionDenied, ResourceExhausted, Unavailable
from swarmd.manager.control_api import watch as watching
from swarmd.model import Cluster, Driver, Node, Role, Secret, Task, TaskStatus
from swarmd.state import Table
from swarmd.state.history import EVENT_BYTES, History
from swarmd.state.watcher import QUEUE_EVENTS_MAX
from swarmd.transport.connection import Connection, Stream
from swarmd.wire import codec
from swarmd.wire.frames import Headers, Hello
from swarmd.wire.methods import WATCH
from swarmd.wire.watch import Action, WatchEntry, WatchMessage, WatchRequest, stored_object
from tests.golden import kinds
from tests.unit.manager.control_api.api_world import CA_KEY, ROOT, World, task_of
from tests.unit.state.builders import config, extension, network, resource, secret, swarm
from tests.unit.transport.pairs import MANAGER, connected, open_router

TASKS = (WatchEntry(kind="task"),)
NARROW = Hello(window=(2, 8 << 20))
"""A client that has room for two messages."""


@asynccontextmanager
async def client_of(world: World, *, hello: Hello | None = None) -> AsyncIterator[Connection]:
    router = open_router()
    router.add(WATCH, world.handlers[WATCH])
    caller = replace(MANAGER)  # each connection has its own
    async with connected(router, client_hello=hello or Hello(), seen_by_server=caller) as pair:
        yield pair.client


@asynccontextmanager
async def watch(
    world: World, request: WatchRequest | None = None, *, hello: Hello | None = None, stale: bool = False
) -> AsyncIterator[Stream[Any, WatchMessage]]:
    async with (
        client_of(world, hello=hello) as client,
        client.open(WATCH, request or WatchRequest(), headers=Headers(stale=stale)) as stream,
    ):
        yield stream


async def told(stream: Stream[Any, WatchMessage], count: int) -> list[tuple[int, list[tuple[str, str]]]]:
    """The next messages that have events."""
    found: list[tuple[int, list[tuple[str, str]]]] = []
    while len(found) < count:
        message = await stream.receive()
        if message.events:
            found.append((message.version, [(e.action.value, e.object["id"]) for e in message.events]))
    return found


async def test_it_runs_from_a_state_that_is_current_and_says_so_first() -> None:
    world = World()
    world.add_tasks([task_of("t1", "s1")])
    async with watch(world, WatchRequest(entries=TASKS)) as stream:
        first = await stream.receive()
        assert (first.version, first.events, first.node_id) == (1, (), "m1")
        assert world.linearized == 1
        world.add_tasks([task_of("t2", "s1"), task_of("t3", "s1")])
        world.store.write(lambda tx: tx.remove(Table.TASK, "t1"))
        assert await told(stream, 2) == [(2, [("create", "t2"), ("create", "t3")]), (3, [("remove", "t1")])]


async def test_a_stale_watch_asks_nobody() -> None:
    world = World()
    async with watch(world, stale=True) as stream:
        assert (await stream.receive()).version == 0
    assert world.linearized == 0


async def test_at_a_version_it_tells_what_came_after_and_goes_on() -> None:
    world = World()
    for number in range(1, 5):
        world.add_tasks([task_of(f"t{number}", "s1")])
    async with watch(world, WatchRequest(after=2)) as stream:
        assert (await stream.receive()).version == 2
        assert await told(stream, 2) == [(3, [("create", "t3")]), (4, [("create", "t4")])]
        world.add_tasks([task_of("t5", "s1")])
        assert await told(stream, 1) == [(5, [("create", "t5")])]
    assert world.linearized == 0


async def test_a_version_that_this_manager_has_not_reached_is_waited_for() -> None:
    world = World()
    world.add_tasks([task_of("t1", "s1")])

    async def catch_up() -> None:
        world.add_tasks([task_of("t2", "s1")])

    world.linearize = catch_up
    async with watch(world, WatchRequest(after=2)) as stream:
        assert (await stream.receive()).version == 2


async def test_a_version_that_nobody_has_reached_is_refused() -> None:
    async with watch(World(), WatchRequest(after=7)) as stream:
        with pytest.raises(Invalid, match="version 7 is in the future: the swarm is at 0") as caught:
            await stream.receive()
    assert caught.value.field == "$.after"
    async with watch(World(), WatchRequest(after=-1)) as stream:
        with pytest.raises(Invalid, match="not negative"):
            await stream.receive()


async def test_without_a_quorum_only_what_is_known_here_can_be_watched() -> None:
    world = World()
    world.add_tasks([task_of("t1", "s1")])

    async def refuse() -> None:
        raise Unavailable("the swarm has no leader")

    world.linearize = refuse
    for after in (None, 2):
        async with watch(world, WatchRequest(after=after)) as stream:
            with pytest.raises(Unavailable):
                await stream.receive()
    async with watch(world, WatchRequest(after=0)) as stream:
        assert await told(stream, 1) == [(1, [("create", "t1")])]


async def test_a_forgotten_version_is_gone() -> None:
    world = World()
    world.store.state._history = History(bytes_max=EVENT_BYTES)
    for number in range(3):
        world.add_tasks([task_of(f"t{number}", "s1")])
    async with watch(world, WatchRequest(after=1)) as stream:
        with pytest.raises(Gone, match="remembers from version 2 on"):
            await stream.receive()


async def test_bad_entries_are_refused_with_their_place() -> None:
    async with watch(World(), WatchRequest(entries=(WatchEntry(kind="task"), WatchEntry(kind="pod")))) as stream:
        with pytest.raises(Invalid, match="no kind of object 'pod'") as caught:
            await stream.receive()
    assert caught.value.field == "$.entries[1].kind"


async def test_old_objects_come_only_when_asked_for() -> None:
    world = World()
    world.add_tasks([task_of("t1", "s1", node="n1")])
    for include_old in (False, True):
        request = WatchRequest(entries=(WatchEntry(kind="task", node_id="n1"),), include_old=include_old)
        async with watch(world, request) as stream:
            await stream.receive()
            node_id = "n2" if not include_old else "n1"
            move(world, node_id)
            (event,) = (await stream.receive()).events
            if include_old:
                assert event.old is not None
                assert stored_object("task", event.old) != stored_object("task", event.object)
            else:
                assert (event.old, event.has_left, event.action) == (None, True, Action.UPDATE)
                assert event.object["node_id"] == "n2"


def move(world: World, node_id: str) -> None:
    def fn(tx: Any) -> None:
        tx.update(replace(tx.task("t1"), node_id=node_id))

    world.store.write(fn)


async def test_events_carry_the_object_as_it_is_stored_and_the_proposers_clock() -> None:
    world = World()
    async with watch(world, WatchRequest(entries=TASKS)) as stream:
        await stream.receive()
        world.add_tasks([task_of("t1", "s1")])
        message = await stream.receive()
        stored = world.store.state.task("t1")
        assert stored is not None
        assert stored_object("task", message.events[0].object) == stored
        assert message.at == stored.meta.updated_at > 0


async def test_no_secret_leaves_by_it() -> None:
    world = World()
    async with watch(world, WatchRequest(include_old=True)) as stream:
        await stream.receive()
        world.add_cluster()
        world.add_node("n1")
        world.store.write(lambda tx: tx.update(replace(tx.cluster(), feature_level=("later",))))
        world.store.write(lambda tx: tx.remove(Table.NODE, "n1"))
        messages = [await stream.receive() for _ in range(4)]
    sent = b"".join(codec.encode(message) for message in messages)
    for hidden in (CA_KEY, b"PRIVATE", b"SWMTKN", b"THE REQUEST", b"THE CERTIFICATE"):
        assert hidden not in sent
    assert ROOT in sent
    assert sent.count(b"host-n1") == 2
    cluster = stored_object("cluster", messages[0].events[0].object)
    assert isinstance(cluster, Cluster)
    assert cluster.root_ca.digest == "d" * 50
    node = stored_object("node", messages[1].events[0].object)
    assert isinstance(node, Node)
    assert node.certificate.expires_at > 0


async def test_payloads_of_no_kind_leave_by_it() -> None:
    """A secret's, a config's, a resource's, and what drivers are told: all of them are hidden in all that is sent."""
    world = World()
    hidden = Driver(name="d", options={"password": "HIDDEN"})
    objects = [
        secret("x1", data=b"HIDDEN", driver=hidden, templating=hidden),
        config("x2", data=b"HIDDEN", templating=hidden),
        network("x3", driver_config=hidden),
        extension("x4", "gpu"),
        replace(resource("x5", "gpu"), payload=b"HIDDEN"),
    ]
    async with watch(world, WatchRequest(include_old=True)) as stream:
        await stream.receive()
        world.store.create(swarm())
        for object in objects:
            world.store.create(object)
        events = [(await stream.receive()).events[0] for _ in range(1 + len(objects))]
    assert [event.object["id"] for event in events[1:]] == [object.id for object in objects]
    sent = b"".join(codec.encode(event) for event in events)
    assert b"HIDDEN" not in sent
    assert base64.b64encode(b"HIDDEN") not in sent
    told = stored_object("secret", events[1].object)
    assert isinstance(told, Secret)
    assert (told.spec.name, told.spec.driver) == ("x1", Driver(name="d"))


async def test_in_quiet_times_it_says_how_far_it_is(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    async with watch(world, WatchRequest(entries=TASKS)) as stream:
        await stream.receive()
        world.add_node("n1")
        message = await stream.receive()
        assert (message.version, message.events) == (1, ())
        assert trio.current_time() == pytest.approx(watching.QUIET_S, abs=1)
        assert (await stream.receive()).version == 1


async def test_a_slow_client_reads_on_from_the_history_without_a_gap() -> None:
    world = World()
    async with watch(world, WatchRequest(entries=TASKS), hello=NARROW) as stream:
        await stream.receive()
        await trio.testing.wait_all_tasks_blocked()
        count = QUEUE_EVENTS_MAX + 500
        for number in range(count):
            world.add_tasks([task_of(f"t{number}", "s1")])
        messages = await told(stream, count)
    assert messages == [(number + 1, [("create", f"t{number}")]) for number in range(count)]


async def test_a_client_too_slow_for_the_history_is_told_gone() -> None:
    world = World()
    world.store.state._history = History(bytes_max=50 * EVENT_BYTES)
    async with watch(world, WatchRequest(entries=TASKS), hello=NARROW) as stream:
        await stream.receive()
        await trio.testing.wait_all_tasks_blocked()
        for number in range(QUEUE_EVENTS_MAX + 500):
            world.add_tasks([task_of(f"t{number}", "s1")])
            if number == 100:
                await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Gone, match=r"after version 101 is not known any more.* from version 14"):
            await told(stream, QUEUE_EVENTS_MAX + 500)


async def test_a_client_that_does_not_read_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    async with watch(world, WatchRequest(entries=TASKS), hello=NARROW) as stream:
        await stream.receive()
        for number in range(10):
            world.add_tasks([task_of(f"t{number}", "s1")])
        await trio.sleep(watching.UNREAD_S_MAX + 1)
        assert not world.store.state._router.is_listened_to
        got: list[int] = []
        with pytest.raises(Gone, match=r"complete up to version \d$") as caught:
            await collect(stream, got)
        assert caught.value.message.endswith(f"version {got[-1]}")
        assert got == list(range(1, len(got) + 1))
    async with watch(world, WatchRequest(entries=TASKS, after=got[-1])) as stream:
        rest = await told(stream, 10 - got[-1])
        assert [version for version, _ in rest] == list(range(got[-1] + 1, 11))


async def collect(stream: Stream[Any, WatchMessage], versions: list[int]) -> None:
    async for message in stream:
        versions.append(message.version)


async def test_a_large_transaction_travels_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "PART_BYTES_MAX", 1000)
    world = World()
    async with watch(world, WatchRequest(entries=TASKS)) as stream:
        await stream.receive()
        world.add_tasks([task_of(f"t{number}", "s1") for number in range(20)])
        messages: list[WatchMessage] = []
        while not messages or messages[-1].is_partial:
            messages.append(await stream.receive())
        assert len(messages) > 2
        assert {message.version for message in messages} == {1}
        assert [e.object["id"] for m in messages for e in m.events] == [f"t{number}" for number in range(20)]


async def test_the_largest_assignment_fits_its_frames() -> None:
    """Twenty thousand tasks in one entry: more than a frame, and more than a queue."""
    world = World()
    ids = [f"t{number}" for number in range(20_000)]
    for start in range(0, len(ids), 2_000):
        world.add_tasks([task_of(id, "s1") for id in ids[start : start + 2_000]])
    done = TaskStatus(state=world.store.state.task("t0").status.state, at=1.0)  # type: ignore[union-attr]
    async with watch(world, WatchRequest(entries=TASKS, include_old=True)) as stream:
        await stream.receive()

        def fn(tx: Any) -> None:
            for id in ids:
                tx.advance(id, done)

        world.store.write(fn)
        seen: list[str] = []
        while True:
            message = await stream.receive()
            seen += [event.object["id"] for event in message.events]
            if not message.is_partial:
                break
        assert seen == ids


async def test_watches_are_limited_and_their_places_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "WATCHES_PER_CONNECTION_MAX", 2)
    world = World()
    async with client_of(world) as client:
        async with client.open(WATCH, WatchRequest()) as one, client.open(WATCH, WatchRequest()) as two:
            await one.receive()
            await two.receive()
            async with client.open(WATCH, WatchRequest()) as third:
                with pytest.raises(ResourceExhausted, match="2 watches run on this connection"):
                    await third.receive()
            async with watch(world) as elsewhere:
                await elsewhere.receive()
        await trio.testing.wait_all_tasks_blocked()
        async with client.open(WATCH, WatchRequest()) as again:
            await again.receive()


async def test_a_manager_takes_so_many_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "WATCHES_MAX", 1)
    world = World()
    async with watch(world) as one, watch(world) as two:
        await one.receive()
        with pytest.raises(ResourceExhausted, match="1 watches run on this manager"):
            await two.receive()


async def test_a_client_that_goes_away_leaves_nothing_behind() -> None:
    world = World()
    async with watch(world) as stream:
        await stream.receive()
        await trio.testing.wait_all_tasks_blocked()
        assert world.store.state._router.is_listened_to
    await trio.testing.wait_all_tasks_blocked()
    assert not world.store.state._router.is_listened_to


async def test_a_manager_that_is_demoted_sees_no_more() -> None:
    world = World()
    node = world.add_node("m1", member=1)
    async with watch(world) as stream:
        await stream.receive()
        spec = replace(node.spec, desired_role=Role.WORKER)
        world.store.write(lambda tx: tx.update(replace(node, role=Role.WORKER, spec=spec)))
        with pytest.raises(PermissionDenied, match=r"not .any more. a manager"):
            await stream.receive()


def test_what_has_no_secrets_is_passed_on_as_it_is() -> None:
    task: Task = task_of("t1", "s1")
    assert watching.without_secrets(task) is task


def test_no_payload_of_the_swarms_objects_is_told() -> None:
    """Neither that of a secret, nor what a driver was given or gave."""
    for object in (kinds.NETWORK, kinds.SECRET, kinds.CONFIG, kinds.VOLUME, kinds.RESOURCE):
        fields = str(watching._fields(object))
        assert object.id in fields
        for hidden in ("hush", "set\\\\xff", "opaque", "sda", "'a': 'b'", "'c': 'd'"):
            assert hidden not in fields
        assert "'name'" in fields
