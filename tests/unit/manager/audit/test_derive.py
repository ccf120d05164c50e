"""Records: equal on every replica, in plain words, and without a secret, whatever field it was planted in."""

from __future__ import annotations

import typing
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from swarmd.manager.audit.derive import CHANGES_MAX, FIELDS_MAX, TEXT_MAX, WEIGHT_MAX, derive
from swarmd.manager.control_api.secret_fields import ASSIGNMENTS, SECRET, SHOWN, STORED
from swarmd.model import Cluster, FileTarget, Node, NodeDescription, NodeSpec, Replicated, Role, SecretReference
from swarmd.state.command import Command, CommandId, Create, Outcome, Remove, Table, Update, Verdict
from swarmd.state.features import KINDS
from swarmd.state.store import State
from swarmd.wire import codec
from swarmd.wire.audit import AuditRecord, chained
from tests.unit.manager.audit.audited import AT, OPERATOR, Member, service, task


def fields(record: AuditRecord) -> dict[str, Any]:
    (change,) = record.changes
    return change.fields


@pytest.fixture
def member() -> Member:
    return Member()


def test_a_change_by_an_operator_is_told(member: Member) -> None:
    member.write(lambda tx: tx.create(service(env=("A=hidden", "B"))))
    old = member.state.service("s1")
    assert old is not None
    spec = replace(old.spec, name="shop", labels={"team": "x"}, mode=Replicated(replicas=3))
    member.write(lambda tx: tx.update(replace(old, spec=spec)))
    member.write(lambda tx: tx.remove(Table.SERVICE, "s1"))
    created, updated, removed = member.tap.records
    assert (created.index, created.at, created.actor, created.result) == (1, AT, OPERATOR, "applied")
    assert [(c.action, c.kind, c.id, c.name) for c in created.changes] == [("create", "service", "s1", "web")]
    assert fields(created) == {
        "spec.name": (None, "web"),
        "spec.task.container.image": (None, "a"),
        "spec.task.container.env": ([], ["A=<redacted>", "B"]),
    }
    assert fields(updated) == {
        "spec.name": ("web", "shop"),
        "spec.labels[team]": (None, "x"),
        "spec.mode.replicas": (1, 3),
    }
    assert [(c.action, c.name, c.fields) for c in removed.changes] == [("remove", "shop", {})]


def test_structs_in_lists_are_told_by_place_and_named_when_they_go(member: Member) -> None:
    used = SecretReference(secret_id="x", secret_name="db", file=FileTarget(name="file"))
    member.write(lambda tx: tx.create(Cluster(id="c", feature_level=(KINDS,))), actor="leader:orchestrator")
    member.tap.records.clear()
    member.write(lambda tx: tx.create(service(secrets=(used,))))
    old = member.state.service("s1")
    assert old is not None
    member.write(lambda tx: tx.update(replace(old, spec=service().spec)))
    first = "spec.task.container.secrets[0]"
    assert fields(member.tap.records[0])[f"{first}.file.name"] == (None, "file")
    assert fields(member.tap.records[1]) == {first: ("SecretReference", None)}


def test_the_swarms_own_work_leaves_no_record(member: Member) -> None:
    member.write(lambda tx: tx.create(task()), actor="leader:orchestrator")
    member.write(lambda tx: tx.remove(Table.TASK, "t1"), actor="leader:reaper")
    assert member.tap.records == []
    assert member.tap.looked_at == 0


def test_liveness_leaves_no_record_and_power_does(member: Member) -> None:
    member.write(lambda tx: tx.create(Node(id="n1", description=NodeDescription(hostname="h"))), actor="anonymous")
    node = member.state.node("n1")
    assert node is not None
    member.write(lambda tx: tx.update(replace(node, description=NodeDescription(hostname="h2"))), actor="dispatcher")
    node = member.state.node("n1")
    assert node is not None
    member.write(lambda tx: tx.update(replace(node, role=Role.MANAGER)), actor="leader:role-manager")
    joined, promoted = member.tap.records
    assert (joined.actor, joined.changes[0].action) == ("anonymous", "create")
    assert fields(promoted) == {"role": ("worker", "manager")}


def test_a_nodes_own_name_goes_before_its_hosts(member: Member) -> None:
    node = Node(id="n1", spec=NodeSpec(name="own"), description=NodeDescription(hostname="h"))
    member.write(lambda tx: tx.create(node))
    assert member.tap.records[0].changes[0].name == "own"


def test_what_was_refused_is_told_of_those_who_asked(member: Member) -> None:
    member.write(lambda tx: tx.create(service()))
    late = Command(
        id=CommandId(1, b"boot", 9),
        actor=OPERATOR,
        at=AT,
        changes=(Update(service(), 7), Create(service("s2", "other")), Remove(Table.NODE, "n9", 1)),
    )
    member.commit(late)
    member.commit(replace(late, actor="leader:orchestrator"))
    _, refused = member.tap.records
    assert refused.result == "conflict: service s1 is at version 1, not 7"
    told = [(c.action, c.kind, c.id, c.name, c.fields) for c in refused.changes]
    assert told == [
        ("update", "service", "s1", "web", {}),
        ("create", "service", "s2", "other", {}),
        ("remove", "node", "n9", "", {}),
    ]


def test_a_repeated_request_names_the_first() -> None:
    outcome = Outcome(verdict=Verdict.DUPLICATE, index=5)
    record = derive(9, Command(id=CommandId(1, b"", 1), actor=OPERATOR, at=AT), outcome, ())
    assert record is not None
    assert record.result == "duplicate of entry 5"


def test_replicas_that_decode_derive_the_same_and_the_same_chain(member: Member) -> None:
    labels = {f"l{n}": str(n) for n in range(9, 0, -1)}
    member.write(lambda tx: tx.create(service(labels=labels, env=("A=1",))))
    member.write(lambda tx: tx.create(service("s2", "b")), actor="node:n1")
    member.write(lambda tx: tx.remove(Table.SERVICE, "s1"))
    other = Member()
    other.replay(member.bodies)
    assert other.tap.records == member.tap.records
    chains = []
    for tap in (member.tap, other.tap):
        chain = ""
        for record in tap.records:
            chain = chained(chain, record).chain
        chains.append(chain)
    assert chains[0] == chains[1]


def test_long_values_are_cut(member: Member) -> None:
    member.write(lambda tx: tx.create(service(command=("x" * 1000,), args=tuple(str(n) for n in range(50)))))
    found = fields(member.tap.records[0])
    (word,) = found["spec.task.container.command"][1]
    assert word == "x" * TEXT_MAX + f"... ({1000 - TEXT_MAX} more)"
    assert found["spec.task.container.args"][1][-1] == "and 30 more"


def test_many_fields_and_many_objects_are_cut_and_it_says_so(member: Member) -> None:
    labels = {f"label-{n:04}": "v" for n in range(500)}
    member.write(lambda tx: tx.create(service(labels=labels)))
    found = fields(member.tap.records[0])
    assert len(found) == FIELDS_MAX + 1
    assert found["..."] == (None, "more fields")

    def create_many(tx: Any) -> None:
        for number in range(CHANGES_MAX + 7):
            tx.create(service(f"x{number}", f"x{number}", command=("y" * TEXT_MAX,) * 20))

    member.write(create_many)
    record = member.tap.records[1]
    assert len(record.changes) == CHANGES_MAX
    assert record.what == "7 more objects"
    assert record.changes[0].fields
    assert not record.changes[-1].fields  # no room any more
    assert len(codec.encode(record)) < 2 * WEIGHT_MAX


# -- secrets -----------------------------------------------------------------------------------------------------
PLANTED = "s3kr1t-pl4nted"
BYTES = PLANTED.encode()


class Builder:
    """Objects with every field set, and the secret planted in all that are secret."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw

    def struct(self, type_: type[Any]) -> Any:
        hints = typing.get_type_hints(type_)
        return type_(**{name: self.field(type_, name, hints[name]) for name in type_.__struct_fields__})

    def field(self, owner: type[Any], name: str, annotation: Any) -> Any:
        if (owner, name) in ASSIGNMENTS:
            return (f"NAME={PLANTED}",)
        if annotation is bytes and (owner, name) in SHOWN:
            return b"public"
        return self.value(annotation, is_secret=(owner, name) in SECRET)

    def value(self, annotation: Any, *, is_secret: bool) -> Any:
        origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
        if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
            return self.struct(annotation)
        if origin is tuple:
            inner = parts[:1] if parts[-1] is Ellipsis else parts
            return tuple(self.value(part, is_secret=is_secret) for part in inner)
        if origin is dict:
            return {"key": self.value(parts[1], is_secret=is_secret)}
        if parts:
            return self.value(self.draw(st.sampled_from(parts)), is_secret=is_secret)
        if annotation is bytes:
            return BYTES
        if annotation is str:
            return PLANTED if is_secret else "shown"
        if annotation is type(None):
            return None
        if isinstance(annotation, type) and hasattr(annotation, "__members__"):
            return next(iter(annotation))
        return annotation(1)


def test_the_builder_plants_in_every_secret_field() -> None:
    planted = [stored for stored in STORED if PLANTED in repr(to_plain(first_of(stored)))]
    assert {stored.__name__ for stored in planted} >= {"Cluster", "Node", "Secret", "Config", "Resource", "Service"}


def first_of(stored: type[Any]) -> Any:
    return Builder(lambda choices: next(part for part in choices.elements if part is not type(None))).struct(stored)


def to_plain(value: Any) -> Any:
    return msgspec.to_builtins(value, builtin_types=(bytes,))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_record_contains_a_secret_wherever_it_was_planted(data: st.DataObject) -> None:
    stored = data.draw(st.sampled_from(STORED))
    builder = Builder(data.draw)
    one, other = builder.struct(stored), builder.struct(stored)
    blank = replace(
        one, **{n: getattr(other, n) for n in data.draw(st.sets(st.sampled_from(stored.__struct_fields__)))}
    )
    old, new = data.draw(st.sampled_from([(None, one), (one, other), (one, blank), (one, None), (emptied(one), one)]))
    actor = data.draw(st.sampled_from([OPERATOR, "node:n1", "leader:role-manager"]))
    rows = State()._tables.by_type[stored]
    command = Command(id=CommandId(1, b"", 1), actor=actor, at=AT, changes=(Create(one),))
    for outcome in (
        Outcome(verdict=Verdict.APPLIED, index=1),
        Outcome(verdict=Verdict.CONFLICT, index=1, reason="it is taken"),
    ):
        record = derive(1, command, outcome, [(rows, old, new)])
        if record is not None:
            assert BYTES not in codec.encode(record)
            assert codec.decode(codec.encode(record), AuditRecord).changes


def emptied(object: Any) -> Any:
    """With everything at its default that has one: secrets appear in the change."""
    defaults = {f.name: f.default for f in msgspec.structs.fields(type(object)) if f.default is not msgspec.NODEFAULT}
    return replace(object, **defaults)
