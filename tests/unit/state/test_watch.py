"""Routed events: who is told, in which order, how often woken, and when cut off."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from swarmd.errors import Gone, Invalid
from swarmd.model import TaskState, TaskStatus
from swarmd.raft import SnapshotMeta
from swarmd.state import Event, Route, State, Subscription, Table, encode_snapshot
from tests.unit.state.builders import Proposer, node, service, task


class Watcher:
    def __init__(self, state: State, *routes: Route, events_max: int = 100) -> None:
        self.state = state
        self.wakes = 0
        self.seen: list[Event] = []
        self.subscription: Subscription = state.subscribe(routes, wake=self.wake, events_max=events_max)

    def wake(self) -> None:
        self.wakes += 1

    def ids(self) -> list[str]:
        return [event.id for event in self.subscription.take()]


def move(proposer: Proposer, id: str, node_id: str) -> None:
    proposer.update(lambda tx: tx.update(replace(tx.task(id), node_id=node_id)))


def test_a_watcher_of_a_node_learns_of_tasks_that_come_and_go(proposer: Proposer) -> None:
    one = Watcher(proposer.state, Route(Table.TASK, "node_id", "n1"))
    other = Watcher(proposer.state, Route(Table.TASK, "node_id", "n2"))
    proposer.create(task("t1"))
    assert (one.ids(), other.ids()) == ([], [])
    move(proposer, "t1", "n1")
    assert (one.ids(), other.ids()) == (["t1"], [])
    move(proposer, "t1", "n2")
    [left] = one.subscription.take()
    assert isinstance(left.old, type(left.new))
    assert (left.old.node_id, left.new.node_id) == ("n1", "n2")
    assert other.ids() == ["t1"]
    proposer.update(lambda tx: tx.remove(Table.TASK, "t1"))
    assert one.ids() == []
    [removed] = other.subscription.take()
    assert (removed.new, removed.index) == (None, proposer.state.index)


def test_routes_by_id_service_and_whole_table(proposer: Proposer) -> None:
    by_id = Watcher(proposer.state, Route(Table.SERVICE, "id", "s1"))
    by_service = Watcher(proposer.state, Route(Table.TASK, "service_id", "s1"))
    everything = Watcher(proposer.state, Route(Table.TASK), Route(Table.NODE))
    proposer.create(service("s1"), service("s2"), task("t1", "s1"), task("t2", "s2"), node("n1"))
    assert by_id.ids() == ["s1"]
    assert by_service.ids() == ["t1"]
    assert everything.ids() == ["t1", "t2", "n1"]


def test_an_event_that_matches_several_routes_comes_once(proposer: Proposer) -> None:
    routes = [Route(Table.TASK), Route(Table.TASK, "id", "t1"), Route(Table.TASK, "service_id", "s1")]
    watcher = Watcher(proposer.state, *routes)
    proposer.create(task("t1", "s1", node_id="n1"))
    assert watcher.ids() == ["t1"]
    watcher.subscription.close()
    proposer.create(task("t2", "s1", node_id="n1"))
    assert watcher.wakes == 1


def test_events_come_in_the_order_of_entries_and_changes(proposer: Proposer) -> None:
    watcher = Watcher(proposer.state, Route(Table.TASK), Route(Table.SERVICE))
    proposer.create(task("t1"), service("s1"), task("t2"))
    proposer.update(lambda tx: tx.advance("t1", TaskStatus(state=TaskState.PENDING)))
    events = watcher.subscription.take()
    assert [(event.id, event.index) for event in events] == [("t1", 1), ("s1", 1), ("t2", 1), ("t1", 2)]
    assert events[0].old is None
    assert events[3].old is events[0].new


def test_a_watcher_is_woken_only_when_its_queue_turns_non_empty(proposer: Proposer) -> None:
    watcher = Watcher(proposer.state, Route(Table.TASK))
    proposer.create(task("t1"), task("t2"))
    proposer.create(task("t3"))
    assert watcher.wakes == 1
    assert watcher.ids() == ["t1", "t2", "t3"]
    proposer.create(task("t4"))
    assert watcher.wakes == 2


def test_the_state_is_whole_when_a_watcher_is_woken(proposer: Proposer) -> None:
    seen: list[tuple[int, int]] = []
    state = proposer.state
    state.subscribe([Route(Table.TASK)], wake=lambda: seen.append((state.index, len(list(state.tasks())))))
    proposer.create(task("t1"), task("t2"))
    assert seen == [(1, 2)]


def test_refused_commands_and_unread_reports_wake_nobody(proposer: Proposer) -> None:
    proposer.create(task("t1"))
    watcher = Watcher(proposer.state, Route(Table.TASK))
    first, second = proposer.begin(), proposer.begin()
    first.update(task("t1", slot=2))
    second.update(task("t1", slot=3))
    proposer.commit(first)
    watcher.ids()
    proposer.commit(second)
    assert watcher.wakes == 1
    assert watcher.ids() == []


def test_a_watcher_that_falls_behind_is_cut_off_and_told(proposer: Proposer) -> None:
    slow = Watcher(proposer.state, Route(Table.TASK), events_max=2)
    quick = Watcher(proposer.state, Route(Table.TASK))
    proposer.create(task("t1"), task("t2"))
    assert not slow.subscription.is_gone
    proposer.create(task("t3"), task("t4"))
    assert slow.subscription.is_gone
    assert slow.wakes == 2
    with pytest.raises(Gone):
        slow.subscription.take()
    slow.subscription.close()
    assert quick.ids() == ["t1", "t2", "t3", "t4"]
    again = Watcher(proposer.state, Route(Table.TASK))
    proposer.create(task("t5"))
    assert (again.ids(), slow.wakes) == (["t5"], 2)


def test_restoring_a_snapshot_cuts_everybody_off(proposer: Proposer) -> None:
    proposer.create(task("t1"))
    meta = SnapshotMeta(index=1, term=1)
    chunks = list(encode_snapshot(proposer.state.capture(), meta))
    fresh = State()
    one, other = Watcher(fresh, Route(Table.TASK)), Watcher(fresh, Route(Table.NODE, "id", "n1"))
    fresh.restore(meta, chunks)
    for watcher in (one, other):
        assert watcher.wakes == 1
        with pytest.raises(Gone):
            watcher.subscription.take()


def test_a_closed_subscription_hears_nothing_and_may_be_closed_again(proposer: Proposer) -> None:
    watcher = Watcher(proposer.state, Route(Table.TASK), Route(Table.TASK, "node_id", "n1"))
    watcher.subscription.close()
    watcher.subscription.close()
    proposer.create(task("t1", node_id="n1"))
    assert watcher.ids() == []
    assert proposer.state._router._tables == {}


def test_events_cannot_be_routed_by_other_fields() -> None:
    for route in (Route(Table.NODE, "node_id", "n1"), Route(Table.TASK, "slot", "1")):
        with pytest.raises(Invalid):
            State().subscribe([route], wake=lambda: None)


def test_a_copy_kept_by_events_stays_equal_to_the_state(proposer: Proposer) -> None:
    proposer.create(task("t0"))
    copy = {t.id: t for t in proposer.state.tasks()}
    watcher = Watcher(proposer.state, Route(Table.TASK))
    proposer.create(task("t1"), task("t2"))
    move(proposer, "t1", "n1")
    proposer.update(lambda tx: tx.remove(Table.TASK, "t0"))
    for event in watcher.subscription.take():
        if event.new is None:
            del copy[event.id]
        else:
            copy[event.id] = event.new
    assert copy == {t.id: t for t in proposer.state.tasks()}
