"""Following from a version on: exactly the later transactions, whole, in order, once; told when some are lost."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from swarmd.errors import Gone, Internal
from swarmd.model import StoredObject, Task, TaskState, TaskStatus
from swarmd.raft import SnapshotMeta
from swarmd.state import Event, Route, State, Table, encode_snapshot
from swarmd.state.history import EVENT_BYTES, History
from swarmd.state.selection import Selection
from swarmd.state.watcher import QUEUE_EVENTS_MAX, SCAN_EVENTS, Watcher
from swarmd.state.watcher import Transaction as Told
from swarmd.wire.watch import Action, WatchEntry
from tests.unit.state.builders import Proposer, node, service, task


class Follower:
    """A watcher and everything it was told."""

    def __init__(self, state: State, *entries: WatchEntry, after: int | None = None, queue_max: int = 0) -> None:
        self.wakes = 0
        self.told: list[Told] = []
        self.watcher: Watcher = state.watch(
            Selection(entries), after=state.index if after is None else after, wake=self.wake
        )
        if queue_max:
            self.watcher._queue_max = queue_max

    def wake(self) -> None:
        self.wakes += 1

    def follow(self) -> list[Told]:
        """What was told since the last time."""
        news: list[Told] = []
        while True:
            news += self.watcher.take()
            if self.watcher.is_current and not (more := self.watcher.take()):
                break
            if self.watcher.is_current:
                news += more
        self.told += news
        return news


def seen(told: Sequence[Told]) -> list[tuple[int, list[tuple[str, str]]]]:
    return [(t.version, [(s.action.value, s.event.id) for s in t.events]) for t in told]


def change(proposer: Proposer, id: str, **fields: Any) -> None:
    def fn(tx: Any) -> None:
        tx.update(replace(tx.task(id), **fields))

    proposer.update(fn)


def test_resuming_hands_out_the_history_and_then_what_happens(proposer: Proposer) -> None:
    proposer.create(task("t1"), task("t2"))
    proposer.create(node("n1"))
    proposer.create(task("t3"))
    follower = Follower(proposer.state, WatchEntry(kind="task"), after=1)
    assert seen(follower.follow()) == [(3, [("create", "t3")])]
    proposer.update(lambda tx: (tx.remove(Table.TASK, "t1"), tx.create(task("t4"))))
    assert follower.wakes == 1
    assert seen(follower.follow()) == [(4, [("remove", "t1"), ("create", "t4")])]
    assert follower.watcher.position == 4


def test_from_the_start_it_is_the_whole_history_with_old_objects_and_clocks(proposer: Proposer) -> None:
    proposer.create(task("t1"))
    proposer.now = 2000.0
    proposer.update(lambda tx: tx.advance("t1", TaskStatus(state=TaskState.PENDING)))
    first, second = Follower(proposer.state, after=0).follow()
    assert (first.at, second.at) == (1000.0, 2000.0)
    assert second.events[0].event.old is first.events[0].event.new
    assert second.events[0].event.new == proposer.state.task("t1")


def test_from_now_on_it_tells_nothing_of_before(proposer: Proposer) -> None:
    proposer.create(task("t1"))
    follower = Follower(proposer.state)
    assert follower.follow() == []
    proposer.create(task("t2"))
    assert seen(follower.follow()) == [(2, [("create", "t2")])]


def test_a_change_between_making_it_and_the_first_look_is_told(proposer: Proposer) -> None:
    follower = Follower(proposer.state)
    proposer.create(task("t1"))
    assert seen(follower.follow()) == [(1, [("create", "t1")])]


def test_a_position_moves_on_where_nothing_fits(proposer: Proposer) -> None:
    follower = Follower(proposer.state, WatchEntry(kind="service"))
    proposer.create(task("t1"))
    proposer.state.skip(2, b"noop")
    proposer.replica.skip(2, b"noop")
    assert follower.follow() == []
    assert follower.watcher.position == 2
    proposer.create(task("t2"))
    assert follower.wakes == 0
    assert follower.follow() == []
    assert follower.watcher.position == 3


def test_who_falls_behind_reads_the_history_and_misses_nothing(proposer: Proposer) -> None:
    follower = Follower(proposer.state, WatchEntry(kind="task"), queue_max=3)
    follower.follow()
    for number in range(10):
        proposer.create(task(f"a{number}"), task(f"b{number}"))
    assert not follower.watcher.is_current
    expected = [(n + 1, [("create", f"a{n}"), ("create", f"b{n}")]) for n in range(10)]
    assert seen(follower.follow()) == expected
    proposer.create(task("c"))
    assert seen(follower.follow()) == [(11, [("create", "c")])]


def test_a_long_history_comes_in_steps_and_a_transaction_is_never_cut() -> None:
    state = State()
    proposer = Proposer()
    proposer.state = state
    for number in range(5):
        proposer.create(*[task(f"t{number}-{n}") for n in range(SCAN_EVENTS // 2 + 1)])
    watcher = state.watch(Selection(), after=0, wake=lambda: None)
    steps = [watcher.take() for _ in range(3)]
    assert [[t.version for t in step] for step in steps] == [[1, 2], [3, 4], [5]]
    assert watcher.is_current


def test_a_version_that_is_forgotten_is_gone_and_says_from_where_on_it_is_known(proposer: Proposer) -> None:
    for state in (proposer.state, proposer.replica):
        state._history = History(bytes_max=4 * EVENT_BYTES)
    for number in range(5):
        proposer.create(task(f"t{number}"))
    start = proposer.state._history.start
    assert start >= 1
    with pytest.raises(Gone, match=f"after version {start - 1} is not known.* from version {start} on"):
        Follower(proposer.state, after=start - 1)
    assert [t.version for t in Follower(proposer.state, after=start).follow()] == list(range(start + 1, 6))


def test_too_slow_for_the_history_is_gone() -> None:
    state, proposer = State(), Proposer()
    proposer.state = state
    state._history = History(bytes_max=20 * EVENT_BYTES)
    follower = Follower(state, queue_max=5)
    follower.follow()
    for number in range(40):
        proposer.create(task(f"t{number}"))
    with pytest.raises(Gone, match="after version 0 is not known"):
        follower.watcher.take()
    with pytest.raises(Gone):
        follower.watcher.take()


def test_a_slow_watcher_holds_a_bounded_queue_however_much_happens() -> None:
    state, proposer = State(), Proposer()
    proposer.state = state
    follower = Follower(state)
    follower.follow()
    assert follower.watcher._live is not None
    for number in range(30):
        proposer.create(*[task(f"t{number}-{n}") for n in range(100)])
        assert len(follower.watcher._live._events) <= QUEUE_EVENTS_MAX


def test_a_restored_snapshot_ends_what_came_before(proposer: Proposer) -> None:
    proposer.create(task("t1"))
    proposer.create(task("t2"))
    chunks = list(encode_snapshot(proposer.state.capture(), SnapshotMeta(index=2, term=1)))
    fresh = State()
    follower = Follower(fresh)
    follower.follow()
    fresh.restore(SnapshotMeta(index=2, term=1), chunks)
    assert follower.wakes == 1
    with pytest.raises(Gone, match="from version 2 on"):
        follower.watcher.take()
    follower.watcher.close()
    with pytest.raises(Gone):
        Follower(fresh, after=1)
    assert Follower(fresh, after=2).follow() == []


def test_refused_commands_leave_nothing_in_the_history(proposer: Proposer) -> None:
    proposer.create(task("t1"))
    first, second = proposer.begin(), proposer.begin()
    first.update(task("t1", slot=2))
    second.update(task("t1", slot=3))
    proposer.commit(first)
    proposer.commit(second)
    assert [t.version for t in Follower(proposer.state, after=0).follow()] == [1, 2]


def test_a_follower_of_the_log_tells_the_same_as_its_proposer(proposer: Proposer) -> None:
    proposer.create(task("t1"), service("s1"))
    proposer.update(lambda tx: tx.remove(Table.TASK, "t1"))
    assert seen(Follower(proposer.replica, after=0).follow()) == seen(Follower(proposer.state, after=0).follow())


def test_a_closed_watcher_is_not_listened_for(proposer: Proposer) -> None:
    follower = Follower(proposer.state)
    follower.follow()
    follower.watcher.close()
    follower.watcher.close()
    assert not proposer.state._router.is_listened_to


def test_a_version_that_is_not_applied_cannot_be_watched_from(proposer: Proposer) -> None:
    with pytest.raises(Internal, match="not applied yet"):
        Follower(proposer.state, after=1)


# -- any history, any place to resume, any filter ----------------------------------------------------------------------
IDS = ("a1", "a2", "b1", "b2")
NODES = ("", "n1", "n2")
ENTRIES = st.sampled_from(
    [
        (),
        (WatchEntry(kind="task"),),
        (WatchEntry(kind="task", id_prefix="a"),),
        (WatchEntry(kind="task", node_id="n1"),),
        (WatchEntry(kind="task", service_id="s1", slot=2),),
        (WatchEntry(kind="task", desired_state=TaskState.RUNNING, node_id="n2"), WatchEntry(kind="node")),
        (WatchEntry(kind="task", id="b1", actions=("create", "remove")),),
        (WatchEntry(kind="service", name="S1"), WatchEntry(kind="task", name_prefix=".1.a")),
    ]
)


class Everything:
    """Every event there was, by a subscription that never falls behind."""

    def __init__(self, state: State) -> None:
        routes = [Route(table) for table in Table]
        self._subscription = state.subscribe(routes, wake=lambda: None, events_max=1_000_000)
        self.events: list[Event] = []

    def after(self, version: int) -> list[Event]:
        self.events += self._subscription.take()
        return [event for event in self.events if event.index > version]


def some_transaction(proposer: Proposer, rng: random.Random) -> None:
    """One to three changes of different objects; sometimes an entry that changes nothing."""
    state = proposer.state
    if rng.random() < 0.15:
        for replica in (proposer.state, proposer.replica):
            replica.skip(replica.index + 1, b"noop")
        return

    def fn(tx: Any) -> None:
        for id in rng.sample(IDS, rng.randint(1, 3)):
            held = state.task(id)
            fields = {"slot": rng.randint(1, 2), "node_id": rng.choice(NODES)}
            if held is None:
                tx.create(task(id, rng.choice(("s1", "s2")), slot=fields["slot"], node_id=fields["node_id"]))
            elif rng.random() < 0.3:
                tx.remove(Table.TASK, id)
            else:
                desired = rng.choice((TaskState.RUNNING, TaskState.SHUTDOWN))
                tx.update(replace(held, desired_state=desired, **fields))
        if rng.random() < 0.2:
            tx.create(node(f"node-{state.index}"))

    proposer.update(fn)


def expected(entries: Sequence[WatchEntry], events: Sequence[Event]) -> list[tuple[int, str, str, bool]]:
    """By the rule alone, without routes, queues and histories."""
    selection = Selection(entries)
    judged = [selection.judge(event) for event in events]
    return [(s.event.index, s.action.value, s.event.id, s.has_left) for s in judged if s is not None]


def flat(told: Sequence[Told]) -> list[tuple[int, str, str, bool]]:
    assert all(t.events and {s.event.index for s in t.events} == {t.version} for t in told)
    versions = [t.version for t in told]
    assert versions == sorted(set(versions))
    return [(t.version, s.action.value, s.event.id, s.has_left) for t in told for s in t.events]


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), entries=ENTRIES, length=st.integers(0, 40), queue_max=st.integers(1, 8))
def test_the_stream_equals_the_filter_over_every_event_wherever_it_is_resumed(
    seed: int, entries: tuple[WatchEntry, ...], length: int, queue_max: int
) -> None:
    rng, proposer = random.Random(seed), Proposer()
    everything = Everything(proposer.state)
    start = rng.randint(0, length)
    follower: Follower | None = None
    began, told = 0, list[Told]()
    for step in range(length + 1):
        if step == start:
            began = rng.randint(0, proposer.state.index)
            follower = Follower(proposer.state, *entries, after=began, queue_max=queue_max)
        if follower is not None and rng.random() < 0.4:
            told += follower.follow()
        if follower is not None and rng.random() < 0.2:
            # The client goes away, and comes back at the last version it was told, to another replica as well.
            position = follower.watcher.position
            follower.watcher.close()
            replica = rng.choice((proposer.state, proposer.replica))
            follower = Follower(replica, *entries, after=position, queue_max=queue_max)
        some_transaction(proposer, rng)
    assert follower is not None
    told += follower.follow()
    assert flat(told) == expected(entries, everything.after(began))
    assert follower.watcher.position == proposer.state.index


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), node_id=st.sampled_from(NODES[1:]), length=st.integers(0, 40))
def test_a_copy_kept_by_what_is_told_equals_what_fits(seed: int, node_id: str, length: int) -> None:
    rng, proposer = random.Random(seed), Proposer()
    follower = Follower(proposer.state, WatchEntry(kind="task", node_id=node_id), after=0)
    copy: dict[str, StoredObject] = {}
    for _ in range(length):
        some_transaction(proposer, rng)
        for told in follower.follow():
            for selected in told.events:
                if selected.action is Action.REMOVE or selected.has_left:
                    del copy[selected.event.id]
                else:
                    assert selected.event.new is not None
                    copy[selected.event.id] = selected.event.new
        assert copy == {t.id: t for t in proposer.state.tasks() if isinstance(t, Task) and t.node_id == node_id}
