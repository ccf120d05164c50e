"""Commands as bytes: an exact round trip, the entry's limit, and hostile bytes."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.errors import Invalid, ResourceExhausted
from swarmd.model import (
    Cluster,
    ClusterSpec,
    ContainerSpec,
    ContainerStatus,
    JoinTokens,
    Meta,
    Node,
    NodeCertificate,
    NodeDescription,
    NodeStatus,
    RemovedNode,
    Resources,
    RootCA,
    Service,
    Task,
    TaskSpec,
    TaskStatus,
)
from swarmd.state import ENTRY_BYTES_MAX, Command, CommandId, IdempotencyKey, Table, decode_command, encode_command
from swarmd.state.command import TABLE_OF_TYPE, Advance, Assign, Claim, Create, Remove, Report, Require, Update
from swarmd.state.normal import normal
from swarmd.wire.codec import encode
from tests.unit.state.builders import SPEC, service, task

TEXT = st.text(max_size=8)
INTEGER = st.integers(-(1 << 63), (1 << 64) - 1)
# Ints among the floats on purpose: the model's types do not keep them out.
NUMBER = st.floats(allow_nan=False) | st.integers(-(1 << 53), 1 << 53)
LABELS = st.dictionaries(TEXT, TEXT, max_size=3)
WORDS = st.lists(TEXT, max_size=3).map(tuple)
STATUSES = st.builds(
    TaskStatus,
    at=NUMBER,
    message=TEXT,
    container=st.none() | st.builds(ContainerStatus, pid=INTEGER, exit_code=st.none() | INTEGER),
)
CONTAINERS = st.builds(ContainerSpec, image=TEXT, command=WORDS, labels=LABELS, stop_grace_period_s=NUMBER)
SPECS = st.builds(TaskSpec, container=CONTAINERS, force_update=INTEGER)
OBJECTS = st.one_of(
    st.builds(Task, id=TEXT, spec=SPECS, status=STATUSES, labels=LABELS, slot=INTEGER),
    st.builds(Service, id=TEXT, spec=st.just(service("x").spec), spec_version=INTEGER),
    st.builds(
        Node,
        id=TEXT,
        description=st.builds(
            NodeDescription, hostname=TEXT, resources=st.builds(Resources), engine_labels=LABELS, features=WORDS
        ),
        status=st.builds(NodeStatus, addr=TEXT),
        certificate=st.builds(NodeCertificate, csr=st.binary(max_size=4), expires_at=NUMBER),
    ),
    st.builds(
        Cluster,
        id=TEXT,
        spec=st.builds(ClusterSpec, labels=LABELS),
        root_ca=st.builds(RootCA, key=st.binary(max_size=4), join_tokens=st.builds(JoinTokens, worker=TEXT)),
    ),
    st.builds(RemovedNode, id=TEXT, expires_at=NUMBER),
).map(lambda object: normal(object)[0])
NORMAL_STATUSES = STATUSES.map(lambda status: normal(status)[0])
TABLES = st.sampled_from(Table)
CHANGES = st.one_of(
    st.builds(Create, OBJECTS),
    st.builds(Update, OBJECTS, INTEGER),
    st.builds(Remove, TABLES, TEXT, INTEGER),
    st.builds(Require, TABLES, TEXT, INTEGER),
    st.builds(Assign, st.lists(st.tuples(TEXT, INTEGER, TEXT), max_size=3).map(tuple), NORMAL_STATUSES),
    st.builds(Report, TEXT, st.lists(st.tuples(TEXT, NORMAL_STATUSES), max_size=3).map(tuple)),
    st.builds(Advance, st.lists(st.tuples(TEXT, INTEGER), max_size=3).map(tuple), NORMAL_STATUSES),
)
COMMANDS = st.builds(
    Command,
    id=st.builds(CommandId, INTEGER, st.binary(max_size=16), INTEGER),
    actor=TEXT,
    at=st.floats(allow_nan=False),
    term=INTEGER,
    key=st.none() | st.builds(IdempotencyKey, st.binary(max_size=8), st.binary(max_size=8), INTEGER),
    claims=st.lists(st.builds(Claim, TEXT, TEXT, WORDS, INTEGER), max_size=2).map(tuple),
    changes=st.lists(CHANGES, max_size=3).map(tuple),
)


@settings(max_examples=150, deadline=None)
@given(COMMANDS)
def test_decoding_gives_what_was_encoded_down_to_the_last_type(command: Command) -> None:
    body = encode_command(command)
    decoded = decode_command(body)
    assert decoded == command
    assert repr(decoded) == repr(command)  # 3 == 3.0, and (1,) differs from [1] only if types are looked at
    assert encode_command(decoded) == body


def as_the_general_encoder_writes(command: Command) -> bytes:
    """The format, said plainly."""

    def change(change: Any) -> tuple[Any, ...]:
        match change:
            case Create(object):
                return (0, TABLE_OF_TYPE[type(object)], object)
            case Update(object, base):
                return (1, TABLE_OF_TYPE[type(object)], base, object)
            case Remove(table, id, base):
                return (2, table, id, base)
            case Require(table, id, base):
                return (3, table, id, base)
            case Assign(items, status):
                return (4, items, status)
            case Report(node_id, items):
                return (5, node_id, items)
            case Advance(items, status):
                return (6, items, status)

    id, key = command.id, command.key
    fields: dict[str, Any] = {"v": command.v, "id": (id.member_id, id.boot_id, id.sequence)}
    fields |= {"actor": command.actor, "at": command.at}
    fields |= {"term": command.term} if command.term else {}
    fields |= {"key": (key.key, key.request_sha256, key.seen_index)} if key is not None else {}
    claims = [(claim.index, claim.key, claim.holders, claim.version) for claim in command.claims]
    fields |= {"claims": claims} if claims else {}
    fields |= {"changes": [change(one) for one in command.changes]} if command.changes else {}
    return encode(fields)


@settings(max_examples=150, deadline=None)
@given(COMMANDS)
def test_what_is_put_together_by_hand_is_what_the_general_encoder_writes(command: Command) -> None:
    expected = as_the_general_encoder_writes(command)
    for _ in range(3):  # from the second time on with the bytes of specs that are kept
        assert encode_command(command).hex() == expected.hex()


@pytest.mark.parametrize("at", [float("inf"), float("-inf"), -0.0, 1e300, 5e-324, 7])
def test_unusual_instants_are_written_as_the_general_encoder_does(at: float) -> None:
    command = Command(id=CommandId(1, b"b", 1), actor="a", at=at)
    assert encode_command(command) == as_the_general_encoder_writes(command)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_hostile_bytes_are_invalid(data: bytes) -> None:
    with pytest.raises(Invalid):
        decode_command(data)


GOOD: dict[str, Any] = {"v": 1, "id": [1, b"b", 1], "actor": "a", "at": 1.0}
TASK = {"id": "t1", "spec": {"container": {"image": "web"}}}


def with_change(*change: Any) -> dict[str, Any]:
    return GOOD | {"changes": [list(change)]}


def test_the_smallest_command_is_understood() -> None:
    assert decode_command(cbor2.dumps(GOOD)).changes == ()
    assert decode_command(cbor2.dumps(with_change(0, 4, TASK))).changes == (Create(Task(id="t1", spec=SPEC)),)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ([], "$"),
        (1, "$"),
        ({}, "$"),
        (GOOD | {"unknown": 1}, "$"),
        (GOOD | {"v": 2}, "$.v"),
        (GOOD | {"v": 0}, "$.v"),
        (GOOD | {"at": "now"}, "$.at"),
        (GOOD | {"id": [1, b""]}, "$.id"),
        (GOOD | {"id": [1, "YWI=", 1]}, "$.id[1]"),
        (GOOD | {"key": [b"", b""]}, "$.key"),
        (GOOD | {"key": ["YWI=", b"", 0]}, "$.key[0]"),
        (GOOD | {"key": [b"", "YWI=", 0]}, "$.key[1]"),
        (GOOD | {"claims": [["i", "k"]]}, "$.claims[0]"),
        (with_change(), "$.changes[0]"),
        (GOOD | {"changes": [7]}, "$.changes[0]"),
        (with_change(99, 4), "$.changes[0]"),
        (with_change("0", 4, TASK), "$.changes[0]"),
        (with_change(True, 4, TASK), "$.changes[0]"),
        (with_change(0, 99, TASK), "$.changes[0][1]"),
        (with_change(0, 4), "$.changes[0]"),
        (with_change(0, 4, TASK, 1), "$.changes[0]"),
        (with_change(0, 4, [TASK]), "$.changes[0][2]"),
        (with_change(0, True, TASK), "$.changes[0][1]"),
        (with_change(0, 4, TASK | {b"id": "x"}), "$.changes[0]"),
        (with_change(0, 2, {"id": "n", "certificate": {"csr": "YWI="}}), "$.changes[0].certificate.csr"),
        (with_change(1, 4, True, TASK), "$.changes[0][2]"),
        (with_change(1, 4, 1, TASK | {"slot": True}), "$.changes[0].slot"),
        (with_change(0, 4, TASK | {"new_field": 1}), "$.changes[0]"),
        (with_change(0, 4, TASK | {"slot": "1"}), "$.changes[0].slot"),
        (with_change(0, 2, TASK), "$.changes[0].spec"),
        (with_change(1, 4, "x", TASK), "$.changes[0][2]"),
        (with_change(4, [["t", 1]], {}), "$.changes[0][1][0]"),
        (with_change(5, "n", [["t", {"state": 5}]]), "$.changes[0][2][0][1].state"),
    ],
)
def test_what_is_no_command_of_this_version_is_refused_with_its_path(value: Any, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        decode_command(cbor2.dumps(value))
    assert caught.value.field == field


def test_a_newer_version_says_what_to_do() -> None:
    with pytest.raises(Invalid, match="newer than this program") as caught:
        decode_command(cbor2.dumps(GOOD | {"v": 2, "whatever": 1}))
    assert caught.value.hint


def test_an_entry_has_a_limit_when_written_and_when_read() -> None:
    command = decode_command(cbor2.dumps(GOOD))
    large = Command(id=command.id, actor="a", at=1.0, changes=(Remove(Table.TASK, "x" * ENTRY_BYTES_MAX, 1),))
    with pytest.raises(ResourceExhausted) as caught:
        encode_command(large)
    assert caught.value.hint
    with pytest.raises(Invalid):
        decode_command(bytes(ENTRY_BYTES_MAX + 1))


def test_an_assignment_is_compact() -> None:
    def size(count: int) -> int:
        items = tuple((f"{number:025}", 1_000_000, "n" * 25) for number in range(count))
        return len(encode_command(Command(id=CommandId(1, b"", 1), actor="", at=1.0, changes=(Assign(items, STATUS),))))

    assert (size(200) - size(0)) / 200 <= 62


STATUS = TaskStatus(at=1.5)


def test_stamps_in_an_entry_are_not_believed() -> None:
    from swarmd.state import State

    state = State()
    forged = Task(id="t1", spec=SPEC, meta=Meta(version=99, created_at=5.0))
    command = Command(id=CommandId(1, b"", 1), actor="a", at=2.0, changes=(Create(forged),))
    state.apply(1, 1, encode_command(command))
    assert state.task("t1").meta == Meta(version=1, created_at=2.0, updated_at=2.0)
    assert task("t1").meta == Meta()
