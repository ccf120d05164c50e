"""The shape that level-triggered loops share, with a work that only records."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from swarmd.errors import Conflict, Invalid, Unavailable
from swarmd.manager.loops import keyed
from swarmd.manager.loops.feed import Feed
from swarmd.manager.loops.keyed import KeyedLoop
from swarmd.model import Node
from swarmd.state.command import Table
from swarmd.state.watch import Event, Route
from tests.unit.manager.local_store import LocalStore


class Recorder:
    """Looks at nodes: takes `look_s`, then does what `outcomes` says for the key (wake-up or error)."""

    name = "node"
    routes = (Route(Table.NODE),)

    def __init__(self, store: LocalStore) -> None:
        self.store = store
        self.looks: list[tuple[float, str]] = []
        self.outcomes: dict[str, list[float | Exception]] = {}
        self.look_s = 0.0
        self.now_looking: set[str] = set()
        self.most_at_once = 0

    def all_keys(self) -> Iterable[str]:
        return [node.id for node in self.store.state.nodes()]

    def keys_of(self, event: Event) -> Iterable[str]:
        return (event.id,)

    async def look(self, key: str) -> float | None:
        assert key not in self.now_looking, "two looks at one key at the same time"
        self.now_looking.add(key)
        self.most_at_once = max(self.most_at_once, len(self.now_looking))
        self.looks.append((trio.current_time(), key))
        try:
            await trio.sleep(self.look_s)
        finally:
            self.now_looking.discard(key)
        outcome = self.outcomes[key].pop(0) if self.outcomes.get(key) else None
        if isinstance(outcome, Exception):
            raise outcome
        return None if outcome is None else self.store.now() + outcome

    def times(self, key: str) -> list[float]:
        return [round(at, 3) for at, looked in self.looks if looked == key]


@pytest.fixture
def store() -> LocalStore:
    return LocalStore()


@pytest.fixture
def work(store: LocalStore) -> Recorder:
    return Recorder(store)


@asynccontextmanager
async def running(store: LocalStore, work: Recorder, *, delay_s: float = 0.0) -> AsyncIterator[None]:
    loop = KeyedLoop(store, work, now=store.now, rng=random.Random(1), delay_s=delay_s)
    async with trio.open_nursery() as nursery:
        await nursery.start(loop.run)
        yield
        nursery.cancel_scope.cancel()


def touch(store: LocalStore, id: str) -> None:
    node = store.state.node(id)
    assert node is not None
    store.write(lambda tx: tx.update(node))


async def test_everything_is_looked_at_when_a_reign_begins(
    store: LocalStore, work: Recorder, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(*[Node(id=id) for id in "abc"])
    async with running(store, work):
        await trio.sleep(1)
    assert [key for _, key in work.looks] == ["a", "b", "c"]


async def test_events_say_where_to_look(
    store: LocalStore, work: Recorder, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(*[Node(id=id) for id in "abc"])
    async with running(store, work):
        await trio.sleep(1)
        touch(store, "b")
        await trio.sleep(1)
    assert work.times("b") == [0, 1]
    assert work.times("a") == [0]


async def test_a_key_is_looked_at_again_when_it_asked_to_be(
    store: LocalStore, work: Recorder, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(Node(id="a"))
    work.outcomes["a"] = [5.0, 0.0]
    async with running(store, work):
        await trio.sleep(20)
    assert work.times("a") == [0, 5, 5]


async def test_a_change_during_a_look_leads_to_one_more_look(
    store: LocalStore, work: Recorder, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(Node(id="a"))
    work.look_s = 2.0
    async with running(store, work):
        await trio.sleep(1)
        for _ in range(3):
            touch(store, "a")
        await trio.sleep(20)
    assert work.times("a") == [0, 2]


async def test_keys_are_looked_at_side_by_side_up_to_a_limit(
    store: LocalStore, work: Recorder, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(*[Node(id=f"n{i}") for i in range(50)])
    work.look_s = 1.0
    async with running(store, work):
        await trio.sleep(20)
    assert work.most_at_once == keyed.WORKERS
    assert len(work.looks) == 50


async def test_a_poisoned_key_is_retried_with_back_off_and_holds_up_nobody(
    store: LocalStore,
    work: Recorder,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store.create(Node(id="bad"), Node(id="good"))
    work.outcomes["bad"] = [Invalid("no good"), ZeroDivisionError("a bug"), Invalid("no good")]
    with caplog.at_level(logging.ERROR):
        async with running(store, work):
            for _ in range(30):
                touch(store, "good")
                await trio.sleep(1)
    assert len(work.times("good")) >= 30
    gaps = [after - before for before, after in zip(work.times("bad"), work.times("bad")[1:], strict=False)]
    assert len(gaps) == 3
    assert gaps[0] < gaps[1] < gaps[2]
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 3
    assert "node bad failed" in caplog.text


async def test_events_do_not_defeat_the_back_off(
    store: LocalStore, work: Recorder, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(Node(id="a"))
    work.outcomes["a"] = [Invalid("no good")] * 1000
    async with running(store, work):
        for _ in range(100):
            await trio.sleep(0.1)
            touch(store, "a")
    assert 5 <= len(work.looks) <= 12


async def test_a_conflict_is_retried_soon(
    store: LocalStore, work: Recorder, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    store.create(Node(id="a"))
    work.outcomes["a"] = [Conflict("busy")]
    async with running(store, work):
        await trio.sleep(0.5)
    assert len(work.looks) == 2
    assert caplog.records == []


async def test_losing_the_lead_ends_the_loop(
    store: LocalStore, work: Recorder, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(Node(id="a"))
    work.outcomes["a"] = [Unavailable("this manager does not lead")]
    with pytest.RaisesGroup(Unavailable, flatten_subgroups=True):
        async with running(store, work):
            await trio.sleep(1)


async def test_lost_events_make_everything_dirty(
    store: LocalStore, work: Recorder, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small(*args: object, **kwargs: object) -> Feed:
        return Feed(store.state, work.routes, events_max=2)

    monkeypatch.setattr(keyed, "Feed", small)
    store.create(*[Node(id=id) for id in "abc"])
    async with running(store, work):
        await trio.sleep(1)
        for id in "aabb":
            touch(store, id)
        await trio.sleep(1)
        touch(store, "a")
        await trio.sleep(1)
    assert work.times("c") == [0, 1]
    assert work.times("a") == [0, 1, 2]


async def test_events_can_be_gathered_for_a_while(
    store: LocalStore, work: Recorder, autojump_clock: trio.testing.MockClock
) -> None:
    store.create(Node(id="a"))
    async with running(store, work, delay_s=0.25):
        await trio.sleep(1)
        for _ in range(5):
            touch(store, "a")
            await trio.sleep(0.04)
        await trio.sleep(1)
    assert work.times("a") == [0, 1.25]


async def test_the_subscription_ends_with_the_loop(store: LocalStore, work: Recorder) -> None:
    async with running(store, work):
        pass
    assert not store.state._router._subscriptions
