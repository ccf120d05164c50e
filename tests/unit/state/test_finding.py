"""Whatever was written in whatever order, each way to find objects finds what looking at every object finds.

The scans here are written apart from the product's, and the rules of names and kinds as plainly as they can be said:
commands are made by hand, legal and illegal ones, and must be judged as the plain rules judge them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from swarmd.errors import Internal, Invalid
from swarmd.model import (
    Annotations,
    Cluster,
    ClusterSpec,
    Config,
    Endpoint,
    Extension,
    Membership,
    Network,
    NetworkAttachmentSpec,
    Node,
    PortConfig,
    PublishMode,
    RemovedNode,
    Resource,
    Role,
    Secret,
    Service,
    StoredObject,
    Task,
    TaskState,
    TaskStatus,
    Volume,
    VolumeAttachment,
)
from swarmd.raft import SnapshotMeta
from swarmd.state import State, Table, Verdict, encode_snapshot
from swarmd.state.command import TABLE_OF_TYPE, Command, CommandId, Create, Remove, Update
from swarmd.state.finding import LOOK_UPS
from swarmd.state.rules import RESERVED_KINDS
from swarmd.state.selectors import (
    All,
    By,
    ByCustom,
    ByCustomPrefix,
    ByDesiredState,
    ByDriver,
    ByIdPrefix,
    ByKind,
    ByMembership,
    ByName,
    ByNamePrefix,
    ByNode,
    ByPublishedPort,
    ByReferencedConfig,
    ByReferencedNetwork,
    ByReferencedSecret,
    ByRole,
    ByRuntime,
    ByService,
    BySlot,
    ByTaskState,
    ByVolumeAttachment,
    ByVolumeGroup,
    Or,
)
from tests.unit.state.builders import (
    Proposer,
    config,
    extension,
    indices,
    network,
    node,
    resource,
    secret,
    service,
    swarm,
    task,
    template,
    volume,
)

Scan = Callable[[Any], bool]
REFERENCES = ("a", "ab", "b")
PORTS = (80, 30000)
NAMES = ("web", "WEB", "web-2", "db")
INDICES = (("team", "front"), ("team", "frontier"), ("team", "back"), ("t", "eam"))
STATES = (TaskState.NEW, TaskState.RUNNING, TaskState.FAILED)


# -- what each way means -----------------------------------------------------------------------------------------------
def lower(text: str) -> str:
    return text.lower()


def name(o: Any) -> str:
    if isinstance(o, Node):
        return o.description.hostname
    if isinstance(o, Task):
        return o.annotations.name or f"{o.service_name}.{o.slot or o.node_id}.{o.id}"
    return str(o.annotations.name if isinstance(o, Extension | Resource) else o.spec.name)


def pairs(o: Any) -> list[tuple[str, str]]:
    carrier = o.annotations if isinstance(o, Task | Extension | Resource) else o.spec
    return [(entry.key, entry.value) for entry in carrier.indices]


def spec(o: Any) -> Any:
    return o.spec.task if isinstance(o, Service) else o.spec


def named() -> Iterable[tuple[By, Scan]]:
    for wanted in (*NAMES, "node-1", "web.1.t1", "WEB.1.T1", "web.n1.t2", "own", ""):
        yield ByName(wanted), lambda o, w=wanted: bool(w) and lower(name(o)) == lower(w)
        for length in (0, 2, len(wanted)):
            prefix = wanted[:length]
            yield ByNamePrefix(prefix), lambda o, p=prefix: lower(name(o)).startswith(lower(p))
    for index, value in (*INDICES, ("team", ""), ("tea", "m")):
        yield ByCustom(index, value), lambda o, e=(index, value): e in pairs(o)
        yield (
            ByCustomPrefix(index, value[:4]),
            lambda o, i=index, v=value[:4]: any(k == i and x.startswith(v) for k, x in pairs(o)),
        )


def identified() -> Iterable[tuple[By, Scan]]:
    yield All(), lambda o: True
    for prefix in ("", "t", "t1", "s", "n1", "x" * 25):
        yield ByIdPrefix(prefix), lambda o, p=prefix: o.id.startswith(p)


def referring() -> Iterable[tuple[By, Scan]]:
    for id in (*REFERENCES, ""):
        yield ByReferencedNetwork(id), lambda o, i=id: bool(i) and i in [n.target for n in spec(o).networks]
        yield (
            ByReferencedSecret(id),
            lambda o, i=id: bool(i) and i in [s.secret_id for s in spec(o).container.secrets],
        )
        yield (
            ByReferencedConfig(id),
            lambda o, i=id: bool(i) and i in [c.config_id for c in spec(o).container.configs],
        )
    for runtime in ("container", "attachment", "other"):
        yield (
            ByRuntime(runtime),
            lambda o, r=runtime: r == ("container" if spec(o).attachment is None else "attachment"),
        )


def of_services() -> Iterable[tuple[By, Scan]]:
    for number in PORTS:
        for mode, prefix in ((PublishMode.INGRESS, ""), (PublishMode.HOST, "host:")):
            yield (
                ByPublishedPort(f"{prefix}tcp/{number}"),
                lambda s, p=(number, mode): p in [(port.published_port, port.publish_mode) for port in ports(s)],
            )


def ports(service: Service) -> tuple[PortConfig, ...]:
    return service.endpoint.ports if service.endpoint is not None else ()


def of_tasks() -> Iterable[tuple[By, Scan]]:
    for service_id in ("s1", "s2"):
        yield ByService(service_id), lambda t, i=service_id: t.service_id == i
        for slot in (0, 1, 2):
            yield BySlot(service_id, slot), lambda t, k=(service_id, slot): (t.service_id, t.slot) == k
    for node_id in ("n1", "n2", ""):
        yield ByNode(node_id), lambda t, i=node_id: t.node_id == i
    for state in STATES:
        yield ByDesiredState(state), lambda t, s=state: t.desired_state == s
        yield ByTaskState(state), lambda t, s=state: t.status.state == s
    for volume_id in REFERENCES:
        yield ByVolumeAttachment(volume_id), lambda t, i=volume_id: i in [v.id for v in t.volumes]


def of_nodes() -> Iterable[tuple[By, Scan]]:
    for role in Role:
        yield ByRole(role), lambda n, r=role: n.role == r
    for membership in Membership:
        yield ByMembership(membership), lambda n, m=membership: n.spec.membership == m


def of_volumes() -> Iterable[tuple[By, Scan]]:
    for text in (*REFERENCES, ""):
        yield ByVolumeGroup(text), lambda v, g=text: bool(g) and v.spec.group == g
        yield ByDriver(text), lambda v, d=text: bool(d) and v.spec.driver is not None and v.spec.driver.name == d


def of_resources() -> Iterable[tuple[By, Scan]]:
    for kind in (*NAMES, ""):
        yield ByKind(kind), lambda r, k=kind: bool(k) and lower(r.kind) == lower(k)


EVERY_WAY: dict[type[Any], list[tuple[By, Scan]]] = {
    Node: [*identified(), *named(), *of_nodes()],
    Service: [*identified(), *named(), *referring(), *of_services()],
    Task: [*identified(), *named(), *referring(), *of_tasks()],
    Network: [*identified(), *named()],
    Cluster: [*identified(), *named()],
    Secret: [*identified(), *named()],
    Resource: [*identified(), *named(), *of_resources()],
    Extension: [*identified(), *named()],
    Config: [*identified(), *named()],
    Volume: [*identified(), *named(), *of_volumes()],
    RemovedNode: [*identified()],
}


def test_every_way_of_every_table_is_tried_here() -> None:
    tried = {TABLE_OF_TYPE[type_]: {type(by) for by, _ in ways} for type_, ways in EVERY_WAY.items()}
    assert tried == {table: set(ways) for table, ways in LOOK_UPS.items()}


# -- any objects -------------------------------------------------------------------------------------------------------
some_indices = st.lists(st.sampled_from(INDICES), max_size=3).map(lambda entries: indices(*entries))
some_names = st.sampled_from(NAMES)
references = st.lists(st.sampled_from(REFERENCES), max_size=2)
templates = st.builds(template, references, references, references)


def ids(letter: str) -> st.SearchStrategy[str]:
    return st.sampled_from([f"{letter}{number}" for number in (1, 2, 3)])


@st.composite
def nodes(draw: st.DrawFn) -> Node:
    made = node(
        draw(ids("n")),
        draw(st.sampled_from(["", "web", "Web", "node-1"])),
        membership=draw(st.sampled_from(Membership)),
        indices=draw(some_indices),
    )
    return replace(made, role=draw(st.sampled_from(Role)))


@st.composite
def services(draw: st.DrawFn) -> Service:
    made = service(draw(ids("s")), draw(some_names))
    published = st.builds(
        PortConfig,
        target_port=st.just(80),
        published_port=st.sampled_from((0, *PORTS)),
        publish_mode=st.sampled_from(PublishMode),
    )
    endpoint = draw(st.one_of(st.none(), st.builds(Endpoint, ports=st.lists(published, max_size=2).map(tuple))))
    spec = replace(made.spec, task=draw(templates), indices=draw(some_indices))
    return replace(made, spec=spec, endpoint=endpoint)


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    attachment = draw(st.sampled_from([None, NetworkAttachmentSpec(container_id="c")]))
    named = draw(st.booleans())
    return Task(
        id=draw(ids("t")),
        service_id=draw(st.sampled_from(["s1", "s2", ""])),
        service_name=draw(some_names),
        slot=draw(st.integers(0, 2)),
        node_id=draw(st.sampled_from(["n1", "n2", ""])),
        spec=replace(draw(templates), attachment=attachment),
        desired_state=draw(st.sampled_from(STATES)),
        status=TaskStatus(state=draw(st.sampled_from(STATES))),
        volumes=tuple([VolumeAttachment(id=id) for id in draw(references)]),
        annotations=Annotations(name="Own" if named else "", indices=draw(some_indices)),
    )


@st.composite
def volumes(draw: st.DrawFn) -> Volume:
    texts = st.sampled_from((*REFERENCES, ""))
    return volume(draw(ids("v")), draw(some_names), group=draw(texts), driver=draw(texts), indices=draw(some_indices))


@st.composite
def extensions(draw: st.DrawFn) -> Extension:
    return extension(draw(ids("e")), draw(st.sampled_from([*NAMES, "Secret"])), indices=draw(some_indices))


resources = st.builds(lambda id, k, n, i: resource(id, k, n, indices=i), ids("r"), some_names, some_names, some_indices)
STRATEGIES: dict[type, st.SearchStrategy[Any]] = {
    Node: nodes(),
    Service: services(),
    Task: tasks(),
    Network: st.builds(lambda id, n, i: network(id, n, indices=i), ids("w"), some_names, some_indices),
    Cluster: st.builds(lambda i: Cluster(id="swarm", spec=ClusterSpec(indices=i)), some_indices),
    Secret: st.builds(lambda id, n, i: secret(id, n, indices=i), ids("x"), some_names, some_indices),
    Resource: resources,
    Extension: extensions(),
    Config: st.builds(lambda id, n, i: config(id, n, indices=i), ids("c"), some_names, some_indices),
    Volume: volumes(),
    RemovedNode: st.builds(lambda id, at: RemovedNode(id=id, expires_at=at), ids("n"), st.sampled_from([1.0, 2.0])),
}
objects = st.one_of(*STRATEGIES.values())
of_one_kind = st.one_of(
    st.builds(extension, st.sampled_from(["e1", "e2"]), st.sampled_from(["web", "WEB"])),
    st.builds(resource, st.just("r1"), st.sampled_from(["web", "WEB"])),
)
Model = dict[tuple[type, str], StoredObject]
UNIQUE = (Service, Network, Secret, Config, Volume, Extension, Resource)


def is_legal(before: Model, after: Model, written: list[tuple[StoredObject | None, StoredObject | None]]) -> bool:
    """What the reference says of names, extensions and resources, in the plainest words."""
    for type_ in UNIQUE:
        names = [lower(name(o)) for (t, _), o in after.items() if t is type_]
        if len(names) != len(set(names)):
            return False
    kinds = {lower(name(o)) for o in after.values() if isinstance(o, Extension)}
    for old, new in written:
        if isinstance(new, Extension) and (old is not None or lower(name(new)) in RESERVED_KINDS):
            return False
        if isinstance(new, Resource) and lower(new.kind) not in kinds:
            return False
        is_kind_gone = isinstance(old, Extension) and new is None and lower(name(old)) not in kinds
        if is_kind_gone and any(isinstance(o, Resource) and lower(o.kind) == lower(name(old)) for o in after.values()):
            return False
    return True


def one_field(data: st.DataObject, source: Any, names: tuple[str, ...]) -> dict[str, Any]:
    name = data.draw(st.sampled_from(names))
    return {name: getattr(source, name)}


class EveryWay(RuleBasedStateMachine):
    """Commands by hand, so that apply alone judges them; the replica applies their bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.proposer = Proposer()
        self.model: Model = {}

    @rule(changes=st.lists(st.tuples(objects, st.booleans()), min_size=1, max_size=4))
    def write_anything(self, changes: list[tuple[StoredObject, bool]]) -> None:
        self.apply(changes)

    @rule(changes=st.lists(st.tuples(of_one_kind, st.booleans()), min_size=1, max_size=4))
    def write_extensions_and_their_resources(self, changes: list[tuple[StoredObject, bool]]) -> None:
        self.apply(changes)

    @rule(data=st.data(), type_=st.sampled_from([Task, Task, Service, Node]))
    def change_one_field(self, data: st.DataObject, type_: type[Any]) -> None:
        """All others stay the very objects that they were, which is what indexes look at first."""
        held = next((o for (t, _), o in self.model.items() if t is type_), None)
        other = data.draw(STRATEGIES[type_])
        if held is None:
            self.apply([(other, False)])
            return
        if type_ is Task:
            new = replace(held, **one_field(data, other, ("spec", "volumes", "annotations", "node_id", "service_id")))
        elif type_ is Service:
            new = replace(held, spec=replace(held.spec, **one_field(data, other.spec, ("name", "task", "indices"))))
        else:
            new = replace(held, spec=replace(held.spec, **one_field(data, other.spec, ("indices", "membership"))))
        self.apply([(new, False)])

    def apply(self, changes: list[tuple[StoredObject, bool]]) -> None:
        distinct = {(type(o), o.id): (o, removes) for o, removes in changes}
        after, made, written = dict(self.model), [], []
        for key, (object, removes) in distinct.items():
            old = self.model.get(key)
            after[key] = object
            if old is None:
                made.append(Create(object))
            elif removes:
                made.append(Remove(TABLE_OF_TYPE[key[0]], object.id, old.meta.version))
                del after[key]
            else:
                made.append(Update(object, old.meta.version))
            written.append((old, after.get(key)))
        outcome = self.proposer.apply(Command(id=CommandId(1, b"b", 1), actor="a", at=5.0, changes=tuple(made)))
        assert (outcome.verdict is Verdict.APPLIED) == is_legal(self.model, after, written), outcome
        if outcome.verdict is Verdict.APPLIED:
            self.model = {(t, id): self.stored(t, id) for t, id in after}

    def stored(self, type_: type[Any], id: str) -> StoredObject:
        found = self.proposer.state.get(type_, id)
        assert isinstance(found, get_args(StoredObject))
        return found

    @rule()
    def replace_the_replica_by_a_snapshot(self) -> None:
        meta = SnapshotMeta(index=self.proposer.state.index, term=1)
        self.proposer.replica = State()
        self.proposer.replica.restore(meta, encode_snapshot(self.proposer.state.capture(), meta))

    @rule(written=st.lists(tasks(), min_size=1, max_size=3))
    def look_through_a_transaction(self, written: list[Task]) -> None:
        """It finds what it wrote itself, and not what it wrote over."""
        held = {o.id: o for o in self.proposer.state.find(Task, All())}
        tx = self.proposer.begin()
        for object in written:
            (tx.update if object.id in held else tx.create)(object)
            held[object.id] = object
        for by, scan in EVERY_WAY[Task]:
            found = tx.find(Task, by, unchecked=True)
            assert sorted(o.id for o in found) == sorted(o.id for o in held.values() if scan(o)), by

    @invariant()
    def each_way_finds_what_a_scan_finds(self) -> None:
        for type_, ways in EVERY_WAY.items():
            held = [o for (t, _), o in self.model.items() if t is type_]
            for state in (self.proposer.state, self.proposer.replica):
                for by, scan in ways:
                    found = [o.id for o in state.find(type_, by)]
                    assert sorted(found) == sorted(o.id for o in held if scan(o)), by

    @invariant()
    def either_or_finds_each_once(self) -> None:
        ways = EVERY_WAY[Task]
        for (first, one), (second, other) in zip(ways, ways[3:], strict=False):
            found = [o.id for o in self.proposer.state.find(Task, Or((first, Or((second, first)))))]
            expected = [o.id for o in self.model.values() if isinstance(o, Task) and (one(o) or other(o))]
            assert sorted(found) == sorted(expected)


TestEveryWay = EveryWay.TestCase
TestEveryWay.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)


# -- what is refused ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("table", Table)
def test_a_way_that_a_table_does_not_know_is_refused_and_the_known_ones_are_named(table: Table) -> None:
    state = State()
    types = {TABLE_OF_TYPE[type_]: type_ for type_ in EVERY_WAY}
    every = {type(by): by for ways in EVERY_WAY.values() for by, _ in ways}
    for way, by in every.items():
        if way in LOOK_UPS[table]:
            assert state.find(types[table], by) == ()
            continue
        for asked in (by, Or((All(), by))):
            with pytest.raises(Invalid, match=f"not found by {way.__name__}") as caught:
                state.find(types[table], asked)
            assert "ByIdPrefix" in (caught.value.hint or "")


def test_either_or_of_nothing_finds_nothing(proposer: Proposer) -> None:
    proposer.create(service("s1"))
    assert proposer.state.find(Service, Or(())) == ()


def test_what_is_no_kind_of_object_is_not_found() -> None:
    with pytest.raises(Invalid, match="nothing that the swarm stores"):
        State().find(TaskStatus, All())  # type: ignore[type-var]


# -- in a transaction --------------------------------------------------------------------------------------------------
def test_what_a_transaction_found_must_still_hold(proposer: Proposer) -> None:
    proposer.create(swarm(), secret("x1"))
    removing, using = proposer.begin(), proposer.begin()
    assert removing.find(Service, ByReferencedSecret("x1")) == ()
    removing.remove(Table.SECRET, "x1")
    user = service("s1")
    using.create(replace(user, spec=replace(user.spec, task=template(secrets=["x1"]))))
    assert proposer.commit(using).verdict is Verdict.APPLIED
    outcome = proposer.commit(removing)
    assert (outcome.verdict, outcome.object_id) == (Verdict.CONFLICT, "x1")


def test_a_set_that_was_found_conflicts_with_each_change_of_it(proposer: Proposer) -> None:
    proposer.create(swarm(), *[replace(task(f"t{n}", "s1"), spec=template(networks=["w1"])) for n in (1, 2)])
    first, second = proposer.begin(), proposer.begin()
    for tx in (first, second):
        assert len(tx.find(Task, ByReferencedNetwork("w1"))) == 2
    first.create(replace(task("t3", "s1"), spec=template(networks=["w1"])))
    second.remove(Table.TASK, "t1")
    assert proposer.commit(first).verdict is Verdict.APPLIED
    assert proposer.commit(second).verdict is Verdict.CONFLICT


@pytest.mark.parametrize("by", [All(), ByTaskState(TaskState.NEW), ByNamePrefix("w"), ByIdPrefix("t")])
def test_what_no_command_can_claim_is_read_unchecked_only(proposer: Proposer, by: By) -> None:
    proposer.create(task("t1", "s1"))
    tx = proposer.begin()
    with pytest.raises(Internal, match="claim"):
        tx.find(Task, by)
    assert tx.find(Task, by, unchecked=True) is not None
    assert proposer.command(tx).claims == ()


def test_get_reads_any_kind_and_claims_what_was_read(proposer: Proposer) -> None:
    proposer.create(swarm(), secret("x1"))
    reader, writer = proposer.begin(), proposer.begin()
    assert reader.get(Secret, "x1") == proposer.state.get(Secret, "x1") != None  # noqa: E711
    assert reader.get(Config, "x1") is None
    reader.create(service("s1"))
    writer.update(secret("x1", labels={"a": "b"}))
    assert proposer.commit(writer).verdict is Verdict.APPLIED
    assert proposer.commit(reader).verdict is Verdict.CONFLICT
