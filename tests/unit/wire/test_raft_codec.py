"""Raft messages and runs as bytes."""

from __future__ import annotations

import cbor2
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.errors import Invalid
from swarmd.raft import Configuration, Entry, EntryKind, Member, Message, MessageType, SnapshotMeta
from swarmd.wire.raft_codec import (
    NUMBER_MAX,
    EntryRun,
    decode_message,
    decode_run,
    encode_message,
    encode_runs,
    trim_run,
)

FAST = settings(max_examples=60, deadline=None)
NUMBERS = st.integers(0, NUMBER_MAX)
BODIES = st.binary(max_size=300)


@st.composite
def entries_strategy(draw: st.DrawFn) -> tuple[Entry, ...]:
    """A piece of a log: consecutive indexes, terms that never fall."""
    first, term = draw(st.integers(1, 1 << 40)), draw(st.integers(0, 1 << 40))
    entries = []
    for position in range(draw(st.integers(0, 30))):
        term += draw(st.sampled_from((0, 0, 0, 1, 5)))
        entries.append(Entry(first + position, term, draw(st.sampled_from(EntryKind)), draw(BODIES)))
    return tuple(entries)


SNAPSHOTS = st.none() | st.builds(
    SnapshotMeta,
    index=NUMBERS,
    term=NUMBERS,
    configuration=st.builds(
        Configuration,
        members=st.lists(
            st.builds(
                Member,
                member_id=NUMBERS,
                node_id=st.text(max_size=5),
                addresses=st.lists(st.text(max_size=5), max_size=2).map(tuple),
                is_voter=st.booleans(),
            ),
            max_size=3,
        ).map(tuple),
        removed=st.lists(NUMBERS, max_size=2).map(tuple),
    ),
)

MESSAGES = st.builds(
    Message,
    type=st.sampled_from([kind for kind in MessageType if kind is not MessageType.APPEND]),
    source=NUMBERS,
    target=NUMBERS,
    term=NUMBERS,
    index=NUMBERS,
    log_term=NUMBERS,
    commit=NUMBERS,
    reject=st.booleans(),
    hint=NUMBERS,
    hint_term=NUMBERS,
    context=NUMBERS,
    snapshot=SNAPSHOTS,
)


def append(*entries: Entry, term: int | None = None) -> bytes:
    """An APPEND of these entries as its sender makes it."""
    runs = encode_runs(entries)
    index = entries[0].index - 1 if entries else 0
    log_term = entries[0].term if entries else 0
    sent = Message(
        type=MessageType.APPEND,
        source=1,
        target=2,
        term=entries[-1].term if term is None else term,
        index=index,
        log_term=log_term,
    )
    return encode_message(sent, runs)


def data(index: int, term: int, body: bytes = b"x") -> Entry:
    return Entry(index, term, EntryKind.DATA, body)


# -- runs ----------------------------------------------------------------------------------------------------------


@FAST
@given(entries_strategy())
def test_runs_hold_the_entries_they_were_made_of(entries: tuple[Entry, ...]) -> None:
    runs = encode_runs(entries)
    assert tuple(entry for run in runs for entry in decode_run(run)) == entries
    assert [run.term for run in runs] == sorted({entry.term for entry in entries})


@pytest.mark.parametrize("size", [0, 1, 23, 24, 255, 256, 65535, 65536])
@pytest.mark.parametrize("count", [1, 23, 24, 256])
def test_a_body_is_what_any_cbor_encoder_makes_of_it(size: int, count: int) -> None:
    body = bytes(size)
    if size * count > 1 << 20:
        count = 2
    for kinds in ([EntryKind.DATA] * count, [EntryKind.NOOP] + [EntryKind.DATA] * (count - 1)):
        (run,) = encode_runs([Entry(i + 1, 1, kind, body) for i, kind in enumerate(kinds)])
        assert run.body == cbor2.dumps([[int(kind), body] for kind in kinds])


def test_bodies_of_different_length_are_encoded_one_by_one() -> None:
    entries = [data(i, 1, bytes(i * 9)) for i in range(1, 65)]
    (run,) = encode_runs(entries)
    assert run.body == cbor2.dumps([[2, entry.body] for entry in entries])


def test_runs_are_split_where_the_term_changes() -> None:
    runs = encode_runs([data(5, 1), data(6, 1), data(7, 3)])
    assert [(run.first, run.last, run.term) for run in runs] == [(5, 6, 1), (7, 7, 3)]
    assert encode_runs([]) == ()


def test_entries_that_are_no_piece_of_a_log_make_no_run() -> None:
    with pytest.raises(ValueError):
        encode_runs([data(1, 1), data(3, 1)])
    with pytest.raises(ValueError):
        encode_runs([data(1, 1), data(2, 2), data(3, 1), data(4, 3)])


def test_a_trimmed_run_is_the_run_of_its_beginning() -> None:
    entries = [data(i, 4, bytes([i])) for i in range(10, 20)]
    (whole,) = encode_runs(entries)
    assert trim_run(whole, 13) == encode_runs(entries[:4])[0]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        cbor2.dumps(5),
        cbor2.dumps({}),
        cbor2.dumps([]),
        cbor2.dumps([[2, b"a"], [2, b"b"]]),
        cbor2.dumps([[2]]),
        cbor2.dumps([[2, b"a", 0]]),
        cbor2.dumps([[2, "a"]]),
        cbor2.dumps([[9, b"a"]]),
        cbor2.dumps([[-1, b"a"]]),
        cbor2.dumps([[True, b"a"]]),
        cbor2.dumps([[2.0, b"a"]]),
        cbor2.dumps([{2: b"a"}]),
        cbor2.dumps([[2, b"a"]]) + b"\x00",
        bytes.fromhex("9f820241619f"),
        cbor2.dumps(cbor2.CBORTag(24, [[2, b"a"]])),
    ],
)
def test_a_body_that_is_not_one_entry_is_refused(body: bytes) -> None:
    with pytest.raises(Invalid):
        decode_run(EntryRun(1, 1, 1, body))


# -- messages ------------------------------------------------------------------------------------------------------


@FAST
@given(MESSAGES)
def test_a_message_survives_the_wire(message: Message) -> None:
    assert decode_message(encode_message(message, ())) == (message, ())


@FAST
@given(entries_strategy().filter(bool), st.integers(0, 5))
def test_an_append_carries_its_runs_verbatim(entries: tuple[Entry, ...], later: int) -> None:
    runs = encode_runs(entries)
    message, received = decode_message(append(*entries, term=entries[-1].term + later))
    assert message.entries == entries
    assert received == runs


def test_the_entries_of_the_message_itself_are_not_looked_at() -> None:
    with_entries = Message(type=MessageType.APPEND, source=1, target=2, term=1, entries=(data(1, 1),))
    without = msgspec.structs.replace(with_entries, entries=())
    runs = encode_runs([data(1, 1, b"other")])
    assert encode_message(with_entries, runs) == encode_message(without, runs)


def test_the_bytes_of_a_message_are_for_ever() -> None:
    meta = SnapshotMeta(
        index=7,
        term=2,
        configuration=Configuration(
            members=(Member(member_id=1, node_id="n1", addresses=("a:1",), is_voter=True),), removed=(9,)
        ),
    )
    snapshot = Message(type=MessageType.SNAPSHOT, source=1, target=2, term=3, index=7, log_term=2, snapshot=meta)
    assert encode_message(snapshot, ()).hex() == (
        "8d08010203070200f4000000"
        "a365696e64657807647465726d026d636f6e66696775726174696f6e"
        "a2676d656d6265727381a4696d656d6265725f69640167"
        "6e6f64655f6964626e31696164647265737365738163613a316869735f766f746572f56772656d6f7665648109"
        "80"
    )
    assert append(data(4, 2, b"ab"), data(5, 2, b"cd")).hex() == (
        "8d04010202030200f4000000f6" + "8184040502" + "4b" + "82" + "82024261628202426364"
    )


def test_fields_that_a_later_version_adds_are_ignored() -> None:
    fields = cbor2.loads(append(data(1, 1)))
    message, runs = decode_message(cbor2.dumps([*fields, "later"]))
    assert message.entries == (data(1, 1),)
    assert len(runs) == 1


@pytest.mark.parametrize(
    ("position", "value"),
    [
        (0, 99),
        (0, "4"),
        (1, -1),
        (1, 1 << 63),
        (3, 1.5),
        (4, True),
        (7, 0),
        (11, 3),
        (11, {"index": "x"}),
        (12, None),
        (12, 7),
        (12, [[1, 1, 1]]),
        (12, [[1, 1, 1, "text"]]),
        (12, [{"first": 1, "last": 1, "term": 1, "body": b""}]),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused(position: int, value: object) -> None:
    fields = cbor2.loads(append(data(1, 1)))
    fields[position] = value
    with pytest.raises(Invalid):
        decode_message(cbor2.dumps(fields))


def test_entries_travel_in_an_append_only() -> None:
    fields = cbor2.loads(append(data(1, 1)))
    fields[0] = int(MessageType.HEARTBEAT)
    with pytest.raises(Invalid):
        decode_message(cbor2.dumps(fields))


@pytest.mark.parametrize(
    "runs",
    [
        [[2, 2, 1]],  # does not follow `index`
        [[1, 1, 1], [3, 3, 1]],  # a gap
        [[1, 1, 1], [1, 1, 1]],  # twice
        [[1, 0, 1]],  # empty
        [[1, 1, 2], [2, 2, 1]],  # terms fall
        [[1, 1, 9]],  # above the message's term
        [[1, NUMBER_MAX + 1, 1]],
        [[-1, 1, 1]],
    ],
)
def test_runs_that_are_no_piece_of_a_log_are_refused(runs: list[list[int]]) -> None:
    body = cbor2.dumps([[2, b"x"]])
    message = Message(type=MessageType.APPEND, source=1, target=2, term=5)
    fields = cbor2.loads(encode_message(message, ()))
    fields[12] = [[*run, body] for run in runs]
    with pytest.raises(Invalid):
        decode_message(cbor2.dumps(fields))


@FAST
@given(st.binary(max_size=200))
def test_hostile_bytes_are_invalid_and_nothing_else(noise: bytes) -> None:
    with pytest.raises(Invalid):
        decode_message(noise)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_message_with_bytes_changed_is_invalid_or_still_a_message(draw: st.DataObject) -> None:
    sent = bytearray(append(data(1, 1, b"hello"), data(2, 1), data(3, 2)))
    for _ in range(draw.draw(st.integers(1, 4))):
        sent[draw.draw(st.integers(0, len(sent) - 1))] = draw.draw(st.integers(0, 255))
    try:
        message, runs = decode_message(bytes(sent))
    except Invalid:
        return
    assert len(message.entries) == sum(run.last - run.first + 1 for run in runs)


def test_nesting_beyond_the_limit_is_refused() -> None:
    with pytest.raises(Invalid):
        decode_message(b"\x81" * 5000)
