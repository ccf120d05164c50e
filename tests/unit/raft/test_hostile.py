"""Whatever a peer sends, nothing is raised and nothing committed is lost."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.raft import (
    ChangeKind,
    Configuration,
    Entry,
    EntryKind,
    Message,
    MessageType,
    SnapshotMeta,
    encode_change,
)
from tests.scenarios.raft.cluster import Cluster, change, member

numbers = st.one_of(st.integers(0, 12), st.sampled_from([-1, 1 << 61, (1 << 62) - 1, 1 << 62, 1 << 63, 1 << 80]))
terms = st.one_of(st.integers(0, 4), numbers)
bodies = st.sampled_from(
    [b"", b"x", b"\xff", encode_change(change(ChangeKind.REMOVE, 1)), encode_change(change(ChangeKind.ADD_LEARNER, 9))]
)
entry = st.builds(Entry, numbers, terms, st.sampled_from(EntryKind), bodies)
runs = st.builds(
    lambda first, term, kinds: tuple(Entry(first + i, term, k, b) for i, (k, b) in enumerate(kinds)),
    st.integers(0, 12),
    st.integers(0, 4),
    st.lists(st.tuples(st.sampled_from(EntryKind), bodies), max_size=4),
)
snapshots = st.builds(
    SnapshotMeta,
    index=numbers,
    term=terms,
    configuration=st.sampled_from([Configuration(), Configuration(members=(member(1), member(2)), removed=(3,))]),
)
messages = st.builds(
    Message,
    type=st.sampled_from(MessageType),
    source=st.sampled_from([0, 1, 2, 3, 77, -5]),
    target=st.sampled_from([1, 1, 1, 2]),
    term=terms,
    index=numbers,
    log_term=terms,
    commit=numbers,
    entries=st.one_of(runs, st.lists(entry, max_size=3).map(tuple)),
    reject=st.booleans(),
    hint=numbers,
    hint_term=terms,
    context=numbers,
    snapshot=st.one_of(st.none(), snapshots),
)


@settings(max_examples=150, deadline=None)
@given(st.booleans(), st.lists(st.one_of(messages, st.just("tick")), max_size=25))
def test_nonsense_never_raises_and_never_touches_what_is_applied(is_leader: bool, script: list[Message | str]) -> None:
    cluster = Cluster(3)
    cluster.elect(1 if is_leader else 2)
    cluster.propose(1 if is_leader else 2, b"a", b"b")
    cluster.tick(1)
    core = cluster.cores[1]
    commit, term = core.commit, core.term
    for event in script:
        if isinstance(event, str):
            core.tick()
        else:
            core.step(event)
        assert core.commit >= commit
        assert core.term >= term
        commit, term = core.commit, core.term
        cluster.drain()  # Cluster.ready objects to a second entry at an applied index
        kept = cluster.kept[1].entries
        assert all(a.index + 1 == b.index and a.term <= b.term for a, b in pairwise(kept))
        core.progress()


@settings(max_examples=30, deadline=None)
@given(st.lists(messages, max_size=10))
def test_a_member_with_an_empty_disk_survives_it_too(script: list[Message]) -> None:
    cluster = Cluster(1)
    core = cluster.add(1)
    for message in script:
        core.step(message)
        core.tick()
        core.take_ready()
