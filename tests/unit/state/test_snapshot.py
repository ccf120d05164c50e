"""A snapshot and its restoration equal the source; anything else is refused and changes nothing."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from swarmd.errors import Invalid
from swarmd.model import Cluster, RemovedNode
from swarmd.raft import Configuration, Member, SnapshotMeta
from swarmd.state import IdempotencyKey, State, Table, encode_command, encode_snapshot
from swarmd.state.snapshot import CHUNK_BYTES_MAX, SnapshotReader
from tests.unit.state.builders import Proposer, node, service, task

CONFIGURATION = Configuration(members=(Member(member_id=5, node_id="n1", is_voter=True),), removed=(3,))


def filled() -> Proposer:
    proposer = Proposer()
    proposer.create(Cluster(id="c1", feature_level=("a", "b")), node("n1", "Host"), service("s1", "Web"))
    proposer.create(*(task(f"t{number}", "s1", slot=number) for number in range(300)))
    proposer.update(lambda tx: [tx.update(replace(tx.task(id), node_id="n1")) for id in ("t7", "t3")])
    proposer.update(lambda tx: [tx.remove(Table.TASK, "t0"), tx.create(RemovedNode(id="gone", expires_at=3.0))])
    proposer.update(lambda tx: tx.create(service("s2")), key=IdempotencyKey(b"k", b"r", 0))
    return proposer


def meta_of(state: State) -> SnapshotMeta:
    return SnapshotMeta(index=state.index, term=4, configuration=CONFIGURATION)


def snapshot(state: State) -> list[bytes]:
    return list(encode_snapshot(state.capture(), meta_of(state)))


def restored(state: State, chunks: Iterable[bytes]) -> State:
    other = State()
    other.restore(meta_of(state), chunks)
    return other


def test_the_restored_state_equals_its_source_in_every_part() -> None:
    source = filled().state
    other = restored(source, snapshot(source))
    assert (other.index, other.digest, other.state_hash()) == (source.index, source.digest, source.state_hash())
    for mine, theirs in zip(source._tables.indexes(), other._tables.indexes(), strict=True):
        assert (mine.holders, mine.changed_at) == (theirs.holders, theirs.changed_at)
    for table, rows in source._tables.by_table.items():
        assert list(other._tables.by_table[table].objects.items()) == list(rows.objects.items())
    key = IdempotencyKey(b"k", b"r", 0)
    assert other.known_result(key, "a") == source.known_result(key, "a")


def test_both_go_on_alike() -> None:
    proposer = filled()
    proposer.replica = restored(proposer.state, snapshot(proposer.state))
    tx = proposer.begin()
    tx.tasks_of_service("s1")
    tx.tasks_of_node("n1")
    tx.update(service("s1", "Web2"))
    proposer.commit(tx)
    proposer.create(task("t900", "s1"))
    assert proposer.replica.state_hash() == proposer.state.state_hash()


def test_what_a_restore_replaces_is_gone() -> None:
    source = filled().state
    other = Proposer()
    other.create(service("old"))
    other.state.restore(meta_of(source), snapshot(source))
    assert other.state.service("old") is None
    assert other.state.service_by_name("old") is None


def test_a_capture_is_not_touched_by_later_writes() -> None:
    proposer = filled()
    meta, capture = meta_of(proposer.state), proposer.state.capture()
    expected = proposer.state.state_hash()
    stream = encode_snapshot(capture, meta)
    chunks = [next(stream)]
    proposer.update(lambda tx: [tx.remove(Table.TASK, "t7"), tx.create(service("s3"))])
    other = State()
    other.restore(meta, [*chunks, *stream])
    assert other.state_hash() == expected


def test_a_snapshot_of_an_empty_state() -> None:
    state = State()
    state.skip(1, b"")
    assert restored(state, snapshot(state)).state_hash() == state.state_hash()


@settings(max_examples=20, deadline=None)
@given(size=st.integers(1, 5000))
def test_chunks_may_be_cut_anywhere_on_their_way(size: int) -> None:
    whole = b"".join(WHOLE)
    pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
    assert restored(SOURCE, pieces).state_hash() == HASH


def test_a_large_object_is_cut_into_chunks_below_the_limit() -> None:
    proposer = Proposer()
    big = replace(task("big"), labels={"padding": "x" * 1_400_000})
    proposer.create(big)
    chunks = snapshot(proposer.state)
    assert max(map(len, chunks)) <= CHUNK_BYTES_MAX
    assert restored(proposer.state, chunks).task("big").labels == big.labels


def test_many_large_objects_are_cut_into_records_that_a_reader_accepts() -> None:
    proposer = Proposer()
    proposer.create(*(task(f"small{number}") for number in range(70)))
    for number in range(5):
        proposer.create(replace(task(f"big{number}"), labels={"padding": "x" * 900_000}))
    assert restored(proposer.state, snapshot(proposer.state)).state_hash() == proposer.state.state_hash()


def test_a_chunk_holds_few_enough_objects_to_be_encoded_in_one_step() -> None:
    sizes = [len(chunk) for chunk in snapshot(filled().state)]
    assert len(sizes) > 300 // 64
    assert max(sizes) < 64 * 200


def test_a_capture_of_another_index_is_no_snapshot_of_this_one() -> None:
    with pytest.raises(ValueError, match="capture of index"):
        next(encode_snapshot(State().capture(), SnapshotMeta(index=3)))


SOURCE = filled().state
WHOLE = snapshot(SOURCE)
HASH = SOURCE.state_hash()


@pytest.mark.parametrize(
    "damaged",
    [
        [],
        WHOLE[:-1],
        WHOLE[1:],
        [*WHOLE, b"more"],
        [*WHOLE, WHOLE[-1]],
        [WHOLE[0], *WHOLE],
        [WHOLE[0], *WHOLE[2:]],
        [*WHOLE[:-1], WHOLE[-1][:-3]],
        [b"\x00\x00\xff\xff\xff\xff", *WHOLE],
        [b"\x09\x00\x00\x00\x00\x00", *WHOLE],
        [WHOLE[0], b"\x01\x63\x00\x00\x00\x01\x80", *WHOLE[1:]],
        [WHOLE[0], b"\x01\x04\x00\x00\x00\x01\xa0", *WHOLE[1:]],
        [WHOLE[0], WHOLE[1], *WHOLE[1:]],
    ],
)
def test_a_damaged_snapshot_is_refused_and_changes_nothing(damaged: list[bytes]) -> None:
    proposer = Proposer()
    proposer.create(service("mine"))
    before, digest = proposer.state.state_hash(), proposer.state.digest
    with pytest.raises(Invalid):
        proposer.state.restore(meta_of(SOURCE), damaged)
    assert (proposer.state.state_hash(), proposer.state.digest) == (before, digest)
    assert proposer.state.service("mine") is not None


@settings(max_examples=60, deadline=None)
@given(position=st.integers(0, len(b"".join(WHOLE)) - 1), flip=st.integers(1, 255))
def test_a_flipped_byte_is_noticed(position: int, flip: int) -> None:
    whole = bytearray(b"".join(WHOLE))
    whole[position] ^= flip
    with pytest.raises(Invalid):
        State().restore(meta_of(SOURCE), [bytes(whole)])


@pytest.mark.parametrize("meta", [SnapshotMeta(index=1, term=4), SnapshotMeta(index=SOURCE.index, term=9)])
def test_a_snapshot_of_another_place_in_the_log_is_refused(meta: SnapshotMeta) -> None:
    with pytest.raises(Invalid, match="the snapshot is of index"):
        State().restore(meta, WHOLE)


def test_a_newer_format_is_refused_with_a_hint() -> None:
    from swarmd.wire.codec import encode

    data = encode({"format": 2, "new": True})
    with pytest.raises(Invalid, match="format 2") as caught:
        SnapshotReader().feed(b"\x00\x00" + len(data).to_bytes(4, "big") + data)
    assert caught.value.hint


def test_results_beyond_the_limit_keep_the_horizon_across_a_restore() -> None:
    proposer = Proposer(results_max=2)
    for number in range(4):
        tx = proposer.begin()
        tx.create(service(f"s{number}"))
        proposer.commit(tx, key=IdempotencyKey(b"k%d" % number, b"", number))
    other = State(results_max=2)
    other.restore(meta_of(proposer.state), snapshot(proposer.state))
    tx = proposer.begin()
    tx.create(service("s9"))
    command = proposer.command(tx, key=IdempotencyKey(b"k0", b"", 0))
    body = encode_command(command)
    assert other.apply(other.index + 1, 1, body) == proposer.state.apply(other.index, 1, body)
