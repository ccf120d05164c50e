"""Tasks with equal specs share one, and nothing else can tell."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from swarmd.model import ContainerSpec, RestartPolicy, Service, ServiceSpec, Task, TaskSpec
from swarmd.raft import SnapshotMeta
from swarmd.state import State, encode_snapshot
from swarmd.state.command import TYPE_OF_TABLE, WITHOUT_BYTES
from swarmd.state.normal import normal
from swarmd.state.specs import SPEC_BYTES_MAX, SharedSpecs, shared
from swarmd.wire.codec import encode
from tests.unit.state.builders import Proposer


def spec(image: str = "web", **container: object) -> TaskSpec:
    return TaskSpec(container=ContainerSpec(image=image, labels={"a": "b"}, **container))


def test_equal_specs_become_one_object_on_every_replica(proposer: Proposer) -> None:
    proposer.create(*(Task(id=f"t{number}", spec=spec()) for number in range(3)))
    proposer.create(Task(id="t3", spec=spec()))
    proposer.update(lambda tx: tx.update(replace(tx.task("t0"), slot=9, spec=spec())))
    meta = SnapshotMeta(index=proposer.state.index, term=1)
    restored = State()
    restored.restore(meta, encode_snapshot(proposer.state.capture(), meta))
    for state in (proposer.state, proposer.replica, restored):
        assert len({id(task.spec) for task in state.tasks()}) == 1


def test_a_services_template_is_the_spec_of_its_tasks(proposer: Proposer) -> None:
    proposer.create(Service(id="s1", spec=ServiceSpec(name="web", task=spec("of a service"))))
    proposer.create(Task(id="t1", service_id="s1", spec=spec("of a service")))
    proposer.update(lambda tx: tx.create(Task(id="t2", service_id="s1", spec=tx.service("s1").spec.task)))
    for state in (proposer.state, proposer.replica):
        template = state.service("s1").spec.task
        assert all(task.spec is template for task in state.tasks())


def test_the_makers_dict_is_not_kept(proposer: Proposer) -> None:
    labels = {"a": "b"}
    for id in ("t1", "t2"):
        proposer.create(Task(id=id, spec=TaskSpec(container=ContainerSpec(image="mine", labels=labels))))
    labels["a"] = "changed"
    assert [task.spec.container.labels for task in proposer.state.tasks()] == [{"a": "b"}] * 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (RestartPolicy(window_s=float("0.0")), RestartPolicy(window_s=-0.0)),
        (RestartPolicy(), RestartPolicy(window_s=float("0.0"))),
    ],
    ids=["minus zero", "a default written out"],
)
def test_what_is_equal_but_written_otherwise_is_not_shared(one: RestartPolicy, other: RestartPolicy) -> None:
    tasks = [normal(Task(id="t", spec=replace(spec(), restart=restart)))[0] for restart in (one, other)]
    assert tasks[0] == tasks[1]
    assert encode(tasks[0]) != encode(tasks[1])
    assert tasks[0].spec is not tasks[1].spec


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.builds(spec, st.sampled_from("ab"), stop_grace_period_s=st.sampled_from([0, 1, 1.0, 10, 10.0, -0.0])))
)
def test_sharing_never_changes_what_is_written(specs: list[TaskSpec]) -> None:
    for given_spec in specs:
        alone = msgspec.msgpack.decode(msgspec.msgpack.encode(given_spec), type=TaskSpec)
        task, _ = normal(Task(id="t", spec=given_spec))
        assert encode(task.spec) == encode(alone)
        assert repr(task.spec) == repr(alone)
        assert shared(Task(id="t", spec=alone)).spec is task.spec  # type: ignore[union-attr]


def test_memory_is_bounded() -> None:
    specs = SharedSpecs(specs_max=2)
    made = [spec(f"image-{number}") for number in range(3)]
    assert [specs.share(one) is one for one in (*made[:2], *made[:2])] == [True] * 4
    specs.share(spec("x" * SPEC_BYTES_MAX))
    assert len(specs) == len(specs._by_identity) == 2
    assert specs.share(made[2]) is made[2]  # one too many: the others are forgotten
    assert len(specs) == len(specs._by_identity) == 1
    assert specs.find(made[0]) is specs.find(made[1]) is specs.encoded(made[0]) is None
    found = specs.find(spec("image-2"))
    assert found == (made[2], len(msgspec.msgpack.encode(made[2])))
    assert specs.share(spec("image-2")) is made[2]


def test_the_bytes_of_a_spec_are_kept_from_the_second_time_on() -> None:
    specs = SharedSpecs()
    one = spec()
    specs.share(one)
    assert specs.encoded(one) is None
    assert specs.encoded(one) == encode(one)
    assert specs.encoded(one) is specs.encoded(one)
    assert specs.encoded(spec()) is None  # an equal one that is not the shared one


def holds_bytes(type_: msgspec.inspect.Type) -> bool:
    match type_:
        case msgspec.inspect.BytesType():
            return True
        case msgspec.inspect.StructType():
            return any(holds_bytes(field.type) for field in type_.fields)
        case msgspec.inspect.UnionType():
            return any(holds_bytes(part) for part in type_.types)
        case msgspec.inspect.VarTupleType():
            return holds_bytes(type_.item_type)
        case msgspec.inspect.DictType():
            return holds_bytes(type_.key_type) or holds_bytes(type_.value_type)
        case _:
            return False


@pytest.mark.parametrize("type_", TYPE_OF_TABLE.values())
def test_what_is_said_to_hold_no_bytes_holds_none(type_: type) -> None:
    assert holds_bytes(msgspec.inspect.type_info(type_)) == (type_ not in WITHOUT_BYTES)
