from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.errors import Invalid
from swarmd.raft import ChangeKind, Configuration, Entry, EntryKind, SnapshotMeta, encode_change
from swarmd.raft.log import Log
from tests.scenarios.raft.cluster import change, founding_entries, member

DATA = EntryKind.DATA


def entries(*terms: int, first: int = 1, size: int = 3) -> list[Entry]:
    return [Entry(i, term, DATA, b"x" * size) for i, term in enumerate(terms, first)]


def log_of(*terms: int, commit: int = 0) -> Log:
    return Log(SnapshotMeta(), entries(*terms), commit)


def test_terms_are_known_from_the_entry_before_the_first_to_the_last() -> None:
    log = Log(SnapshotMeta(index=5, term=2), entries(2, 3, first=6), 0)
    assert [log.term_of(i) for i in range(4, 9)] == [None, 2, 2, 3, None]
    assert (log.first_index, log.last_index, log.commit) == (6, 7, 5)


def test_the_commit_hint_is_kept_within_what_is_there() -> None:
    assert log_of(1, 1, commit=9).commit == 2
    assert Log(SnapshotMeta(index=5, term=2), [], 3).commit == 5


def test_entries_kept_behind_the_snapshot_serve_slow_followers_and_change_nothing() -> None:
    conf = Configuration(members=(member(1),))
    kept = [
        *entries(1, 1),
        Entry(3, 1, EntryKind.CONFIG, encode_change(change(ChangeKind.ADD_LEARNER, 1))),
        *entries(2, first=4),
    ]
    log = Log(SnapshotMeta(index=3, term=1, configuration=conf), kept, 4)
    assert log.configuration == conf
    assert (log.first_index, log.last_index, log.handed) == (2, 4, 3)
    assert [e.index for e in log.take_committed()] == [4]


@pytest.mark.parametrize(
    "stored",
    [
        entries(3, 3, first=9),  # ends before the snapshot
        entries(1, 1, first=12),  # a gap
        entries(3, 3, 3, first=9),  # another entry at the snapshot's index
        entries(3, first=11),  # an earlier term right after it
    ],
)
def test_a_stored_tail_that_contradicts_the_snapshot_is_not_used(stored: list[Entry]) -> None:
    log = Log(SnapshotMeta(index=10, term=4), stored, 0)
    assert (log.last_index, log.last_term) == (10, 4)


def test_an_unreadable_change_on_disk_stops_the_member() -> None:
    with pytest.raises(Invalid):
        Log(SnapshotMeta(), [Entry(1, 1, EntryKind.CONFIG, b"?")], 0)


def test_accept_keeps_what_agrees_and_cuts_what_does_not() -> None:
    log = log_of(1, 1, 2, 2)
    log.take_unstable()
    assert log.accept(1, entries(1, 2, first=2), [])
    assert log.last_index == 4, "a duplicate of old news shortens nothing"
    assert log.take_unstable() == ()
    assert log.accept(2, entries(3, 3, first=3), [])
    assert [log.term_of(i) for i in range(1, 5)] == [1, 1, 3, 3]
    assert [e.index for e in log.take_unstable()] == [3, 4]


def test_accept_never_cuts_what_is_committed() -> None:
    log = log_of(1, 1, 2, commit=3)
    assert not log.accept(2, entries(9, first=3), [])
    assert log.term_of(3) == 2


def test_a_configuration_is_used_from_append_and_undone_when_cut() -> None:
    founding = founding_entries([1])
    log = Log(SnapshotMeta(), founding, 2)
    one = change(ChangeKind.ADD_LEARNER, 2)
    log.accept(2, [Entry(3, 2, EntryKind.CONFIG, encode_change(one))], [(3, one)])
    assert log.configuration.member(2) is not None
    assert log.committed_configuration.member(2) is None
    log.accept(2, entries(3, first=3), [])
    assert log.configuration.member(2) is None


def test_a_batch_keeps_both_limits_and_holds_at_least_one_entry() -> None:
    log = Log(SnapshotMeta(), [Entry(i, 1, DATA, b"x" * size) for i, size in enumerate((5, 5, 100, 5), 1)], 0)
    assert log.batch_end(1, 10, 1000) == 4
    assert log.batch_end(1, 2, 1000) == 2
    assert log.batch_end(1, 10, 10) == 2
    assert log.batch_end(3, 10, 10) == 3, "a larger single entry is still sent, alone"
    log.commit_to(4)
    log.compact(SnapshotMeta(index=2, term=1), keep_from=3)
    assert log.batch_end(3, 10, 100) == 3
    assert log.batch_end(3, 10, 105) == 4


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 4), max_size=8).map(sorted), st.integers(0, 10), st.integers(0, 5), st.integers(0, 5))
def test_the_place_where_logs_may_agree_is_found_as_by_walking_back(
    terms: list[int], index: int, term: int, drop: int
) -> None:
    log = log_of(*terms)
    drop = min(drop, len(terms))
    log.commit_to(drop)
    if drop:
        log.compact(SnapshotMeta(index=drop, term=terms[drop - 1]), keep_from=drop + 1)
    walked = min(index, len(terms))
    while walked > drop and terms[walked - 1] > term:
        walked -= 1
    assert log.last_not_above(index, term) == max(walked, drop)


def test_the_same_range_is_the_same_tuple() -> None:
    log = log_of(1, 1, 1)
    assert log.slice(1, 3) is log.slice(1, 3)
    log.accept(2, entries(2, first=3), [])
    assert log.slice(1, 3)[2].term == 2, "not across a cut"


def test_uncommitted_bytes() -> None:
    log = log_of(1, 1, 1, 1, commit=1)
    assert log.uncommitted_bytes == 9
    log.commit_to(4)
    assert log.uncommitted_bytes == 0


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_the_log_behaves_like_a_list(data: st.DataObject) -> None:
    log, model, commit = log_of(), [], 0
    for term in range(1, 7):
        previous = data.draw(st.integers(commit, len(model)))
        fresh = entries(*[term] * data.draw(st.integers(0, 3)), first=previous + 1, size=term)
        assert log.accept(previous, fresh, [])
        if fresh:
            model = model[:previous] + fresh
        commit = data.draw(st.integers(commit, len(model)))
        log.commit_to(commit)
        if data.draw(st.booleans()) and commit > log.snapshot.index:
            log.compact(
                SnapshotMeta(index=commit, term=model[commit - 1].term), keep_from=data.draw(st.integers(1, commit + 1))
            )
        assert log.last_index == len(model)
        here = model[log.first_index - 1 :]
        assert log.slice(log.first_index, log.last_index) == tuple(here)
        assert [log.term_of(e.index) for e in here] == [e.term for e in here]
        assert log.uncommitted_bytes == sum(len(e.body) for e in model[commit:])
