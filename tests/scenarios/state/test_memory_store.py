"""What SwarmKit's tests of its memory store try (`manager/state/store/memory_test.go`), on the state and its replica.

Where SwarmKit's store has a defect, the test asks for what it should have been, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from swarmd.errors import AlreadyExists, Conflict, FailedPrecondition, Invalid, NotFound
from swarmd.model import (
    Cluster,
    Config,
    Extension,
    Membership,
    Network,
    Node,
    Resource,
    Role,
    Secret,
    Service,
    StoredObject,
    Task,
    TaskState,
    Volume,
    VolumeAttachment,
)
from swarmd.state import Table, Transaction, Verdict
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


@pytest.fixture
def store() -> Iterator[Proposer]:
    made = Proposer()
    made.create(swarm())
    yield made
    assert made.replica.state_hash() == made.state.state_hash()


def found(store: Proposer, type_: type[Any], by: By) -> str:
    """Ids, in order, the same on the replica that knows only the bytes."""
    ids = sorted(object.id for object in store.state.find(type_, by))
    assert sorted(object.id for object in store.replica.find(type_, by)) == ids
    return " ".join(ids)


def attempt(store: Proposer, fn: Any) -> Any:
    """What `fn` raises; nothing of it may be seen."""
    before = store.state.state_hash()
    with pytest.raises(Exception) as caught:
        store.update(fn)
    assert store.state.state_hash() == before
    return caught.value


def test_store_node(store: Proposer) -> None:
    waiting = replace(node("id2", "name2", membership=Membership.PENDING), role=Role.WORKER)
    store.create(replace(node("id1", "name1"), role=Role.MANAGER), waiting, node("id3", "name2"))
    assert found(store, Node, All()) == "id1 id2 id3"
    assert found(store, Node, ByName("NAME1")) == "id1"
    assert found(store, Node, ByName("name2")) == "id2 id3", "hostnames may repeat"
    assert found(store, Node, ByName("invalid")) == ""
    assert found(store, Node, ByNamePrefix("Name")) == "id1 id2 id3"
    assert found(store, Node, ByIdPrefix("id")) == "id1 id2 id3"
    assert found(store, Node, ByRole(Role.MANAGER)) == "id1"
    assert found(store, Node, ByMembership(Membership.PENDING)) == "id2"
    assert isinstance(attempt(store, lambda tx: tx.create(node("id1"))), AlreadyExists)
    assert isinstance(attempt(store, lambda tx: tx.update(node("nobody"))), NotFound)
    assert isinstance(attempt(store, lambda tx: tx.remove(Table.NODE, "nobody")), NotFound)
    store.update(lambda tx: tx.update(node("id1", "moved")))
    assert (found(store, Node, ByName("name1")), found(store, Node, ByName("moved"))) == ("", "id1")
    store.update(lambda tx: tx.remove(Table.NODE, "id1"))
    assert found(store, Node, All()) == "id2 id3"


def test_store_service(store: Proposer) -> None:
    user = replace(service("id3", "name3"))
    spec = template(networks=["w1"], secrets=["x1"], configs=["c1"])
    store.create(service("id1", "name1"), service("id2", "name2"), replace(user, spec=replace(user.spec, task=spec)))
    assert found(store, Service, ByName("NAME1")) == "id1"
    assert found(store, Service, ByNamePrefix("name")) == "id1 id2 id3"
    assert found(store, Service, ByRuntime("container")) == "id1 id2 id3"
    assert found(store, Service, ByReferencedNetwork("w1")) == "id3"
    assert found(store, Service, ByReferencedSecret("x1")) == "id3"
    assert found(store, Service, ByReferencedConfig("c1")) == "id3"
    assert found(store, Service, ByReferencedSecret("x")) == ""
    assert isinstance(attempt(store, lambda tx: tx.create(service("id4", "NAME1"))), AlreadyExists)
    assert isinstance(attempt(store, lambda tx: tx.update(service("id2", "Name1"))), AlreadyExists)
    store.update(lambda tx: tx.update(service("id1", "NAME1")))
    assert found(store, Service, ByName("name1")) == "id1", "its own name is free for it"
    store.update(lambda tx: tx.update(service("id3", "name3")))
    assert found(store, Service, ByReferencedSecret("x1")) == "", "it refers to nothing any more"


@pytest.mark.parametrize(
    ("make", "type_", "table"),
    [
        (network, Network, Table.NETWORK),
        (secret, Secret, Table.SECRET),
        (config, Config, Table.CONFIG),
        (volume, Volume, Table.VOLUME),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_store_network_secret_config_volume(store: Proposer, make: Any, type_: type[Any], table: Table) -> None:
    store.create(make("id1", "name1"), make("id2", "name2"), make("id3", "name3"))
    assert store.state.get(type_, "id1").spec.name == "name1"
    assert found(store, type_, All()) == "id1 id2 id3"
    assert found(store, type_, ByName("NAME1")) == "id1"
    assert found(store, type_, ByNamePrefix("NAM")) == "id1 id2 id3"
    assert found(store, type_, ByIdPrefix("id")) == "id1 id2 id3"
    assert isinstance(attempt(store, lambda tx: tx.create(make("id1", "other"))), AlreadyExists)
    assert isinstance(attempt(store, lambda tx: tx.create(make("id4", "Name1"))), AlreadyExists)
    assert isinstance(attempt(store, lambda tx: tx.update(make("id2", "NAME3"))), AlreadyExists)
    store.update(lambda tx: tx.update(make("id1", "NAME1", labels={"a": "b"})))
    assert store.state.get(type_, "id1").spec.labels == {"a": "b"}
    store.update(lambda tx: tx.remove(table, "id1"))
    assert store.state.get(type_, "id1") is None
    store.create(make("id4", "name1"))
    assert found(store, type_, ByName("name1")) == "id4", "a removed object's name is free"


def test_store_cluster(store: Proposer) -> None:
    assert found(store, Cluster, ByName("DEFAULT")) == "swarm"
    assert found(store, Cluster, ByNamePrefix("def")) == "swarm"
    assert isinstance(attempt(store, lambda tx: tx.create(Cluster(id="another"))), AlreadyExists)


def test_store_volume(store: Proposer) -> None:
    store.create(volume("v1", group="fast", driver="nfs"), volume("v2", group="slow", driver="nfs"), volume("v3"))
    assert found(store, Volume, ByVolumeGroup("fast")) == "v1"
    assert found(store, Volume, ByDriver("nfs")) == "v1 v2"
    assert found(store, Volume, ByVolumeGroup("")) == ""
    store.update(lambda tx: tx.update(volume("v1", group="slow")))
    assert (found(store, Volume, ByVolumeGroup("slow")), found(store, Volume, ByDriver("nfs"))) == ("v1 v2", "v2")


def test_store_task(store: Proposer) -> None:
    spec = template(networks=["w1"], secrets=["x1"], configs=["c1"])
    first = replace(task("id1", "s1", slot=1, node_id="n1"), service_name="web", spec=spec)
    store.create(
        replace(first, volumes=(VolumeAttachment(id="v1"),)),
        replace(task("id2", "s1", slot=2, state=TaskState.RUNNING), service_name="web"),
        replace(task("id3", "s2", slot=0, node_id="n1"), service_name="db", desired_state=TaskState.SHUTDOWN),
    )
    assert found(store, Task, ByName("WEB.1.id1")) == "id1"
    assert found(store, Task, ByName("db.n1.id3")) == "id3", "without a slot the node takes its place"
    assert found(store, Task, ByName("web.2.id1")) == ""
    assert found(store, Task, ByNamePrefix("web.")) == "id1 id2"
    assert found(store, Task, ByService("s1")) == "id1 id2"
    assert found(store, Task, ByNode("n1")) == "id1 id3"
    assert found(store, Task, BySlot("s1", 2)) == "id2"
    assert found(store, Task, ByDesiredState(TaskState.SHUTDOWN)) == "id3"
    assert found(store, Task, ByTaskState(TaskState.RUNNING)) == "id2"
    assert found(store, Task, ByRuntime("container")) == "id1 id2 id3"
    for by in (ByReferencedNetwork("w1"), ByReferencedSecret("x1"), ByReferencedConfig("c1"), ByVolumeAttachment("v1")):
        assert found(store, Task, by) == "id1"
    store.update(lambda tx: tx.update(replace(first, node_id="n2", spec=template(secrets=["x2"]))))
    assert found(store, Task, ByNode("n1")) == "id3"
    assert found(store, Task, ByReferencedSecret("x2")) == "id1"
    for gone in (ByReferencedNetwork("w1"), ByReferencedSecret("x1"), ByVolumeAttachment("v1")):
        assert found(store, Task, gone) == ""


def test_store_extension(store: Proposer) -> None:
    store.create(extension("e1", "Certificate"))
    assert found(store, Extension, ByName("certificate")) == "e1"
    for taken in ("CERTIFICATE", "node", "Secret", "TASK"):
        refused = attempt(store, lambda tx, name=taken: tx.create(extension("e2", name)))
        assert isinstance(refused, AlreadyExists), taken
    assert isinstance(attempt(store, lambda tx: tx.update(extension("e1", "Certificate"))), FailedPrecondition)
    store.update(lambda tx: tx.remove(Table.EXTENSION, "e1"))
    assert found(store, Extension, All()) == ""


def test_store_resource(store: Proposer) -> None:
    assert isinstance(attempt(store, lambda tx: tx.create(resource("r1", "certificate"))), Invalid)
    store.create(extension("e1", "Certificate"), extension("e2", "Route"))
    store.create(resource("r1", "certificate", "name1"), resource("r2", "Certificate", "name2"))
    store.create(resource("r3", "route", "name3"))
    assert found(store, Resource, ByKind("CERTIFICATE")) == "r1 r2"
    assert found(store, Resource, ByName("Name3")) == "r3"
    clash = attempt(store, lambda tx: tx.create(resource("r4", "route", "NAME1")))
    assert isinstance(clash, AlreadyExists), "names are unique among all kinds"
    # SwarmKit looks at a resource's name when it is made, and never again.
    assert isinstance(attempt(store, lambda tx: tx.update(resource("r2", "certificate", "name1"))), AlreadyExists)
    # SwarmKit looks resources up by the very case of the kind, and lets an extension go that has some.
    refused = attempt(store, lambda tx: tx.remove(Table.EXTENSION, "e1"))
    assert isinstance(refused, FailedPrecondition)
    assert "name1, name2" in refused.message
    for id in ("r1", "r2"):
        store.update(lambda tx, id=id: tx.remove(Table.RESOURCE, id))
    store.update(lambda tx: tx.remove(Table.EXTENSION, "e1"))
    assert found(store, Extension, All()) == "e2"


def test_bad_selectors_are_refused_for_each_table(store: Proposer) -> None:
    bad: tuple[tuple[type[StoredObject], By], ...] = (
        (Node, BySlot("s1", 1)),
        (Service, ByRole(Role.MANAGER)),
        (Task, ByMembership(Membership.PENDING)),
        (Network, ByRuntime("container")),
        (Cluster, ByKind("x")),
        (Secret, ByDriver("x")),
        (Resource, ByNode("n1")),
        (Extension, ByReferencedSecret("x1")),
        (Config, ByVolumeGroup("x")),
        (Volume, ByService("s1")),
    )
    for type_, by in bad:
        with pytest.raises(Invalid, match="is not found by"):
            store.state.find(type_, by)


def test_failed_transaction(store: Proposer) -> None:
    def fails(tx: Transaction) -> None:
        tx.create(secret("x1"))
        tx.create(secret("x2", "x1"))

    assert isinstance(attempt(store, fails), AlreadyExists)
    assert found(store, Secret, All()) == ""


def test_version(store: Proposer) -> None:
    store.create(secret("x1"))
    stale = store.state.get(Secret, "x1")
    assert stale is not None
    store.update(lambda tx: tx.update(replace(stale, spec=replace(stale.spec, labels={"n": "1"}))))
    assert isinstance(attempt(store, lambda tx: tx.update(stale)), Conflict)

    def twice(tx: Transaction) -> None:
        for number in ("2", "3"):
            fresh = tx.get(Secret, "x1")
            assert fresh is not None
            tx.update(replace(fresh, spec=replace(fresh.spec, labels={"n": number})))

    outcome = store.update(twice)
    held = store.state.get(Secret, "x1")
    assert held is not None
    assert (held.spec.labels, held.meta.version) == ({"n": "3"}, outcome.index), "what was read is what was written"


def test_timestamps(store: Proposer) -> None:
    store.create(config("c1"))
    store.now += 10
    store.update(lambda tx: tx.update(config("c1", labels={"a": "b"})))
    held = store.state.get(Config, "c1")
    assert held is not None
    assert (held.meta.created_at, held.meta.updated_at) == (1000.0, 1010.0)


def test_custom_index(store: Proposer) -> None:
    store.create(
        network("w1", indices=indices(("team", "front"), ("team", "ops"))),
        network("w2", indices=indices(("team", "frontier"))),
        network("w3", indices=indices(("teams", "front"))),
        extension("e1", "Kind", indices=indices(("team", "front"))),
        resource("r1", "kind", indices=indices(("team", "front"))),
    )
    assert found(store, Network, ByCustom("team", "front")) == "w1"
    assert found(store, Network, ByCustom("team", "ops")) == "w1"
    assert found(store, Network, ByCustom("team", "f")) == ""
    assert found(store, Network, ByCustomPrefix("team", "front")) == "w1 w2"
    assert found(store, Network, ByCustomPrefix("team", "")) == "w1 w2"
    assert found(store, Network, ByCustomPrefix("te", "")) == "", "the index itself is named whole"
    # SwarmKit's lookup by an object's kind as well can never match; here the table is the kind.
    assert found(store, Resource, ByCustom("team", "front")) == "r1"
    assert found(store, Extension, ByCustom("team", "front")) == "e1"
    store.update(lambda tx: tx.update(network("w1", indices=indices(("team", "ops")))))
    assert (found(store, Network, ByCustom("team", "front")), found(store, Network, ByCustom("team", "ops"))) == (
        "",
        "w1",
    )


def test_or_combinator(store: Proposer) -> None:
    store.create(service("id1", "name1"), service("id2", "name2"), service("other", "name3"))
    assert found(store, Service, Or(())) == ""
    assert found(store, Service, Or((ByName("name1"), ByIdPrefix("id")))) == "id1 id2", "each once"
    assert found(store, Service, Or((ByName("name3"), Or((ByName("name1"), ByName("nobody")))))) == "id1 other"
    assert len(store.state.find(Service, Or((All(), All())))) == 3


def test_rules_are_judged_when_a_change_is_applied_not_only_when_it_is_made(store: Proposer) -> None:
    store.create(extension("e1", "kind"))
    one, other, removing = store.begin(), store.begin(), store.begin()
    one.create(resource("r1", "kind", "name"))
    other.create(resource("r2", "kind", "NAME"))
    removing.remove(Table.EXTENSION, "e1")
    assert store.commit(one).verdict is Verdict.APPLIED
    for late, about in ((other, "r2"), (removing, "e1")):
        outcome = store.commit(late)
        assert (outcome.verdict, outcome.object_id) == (Verdict.CONFLICT, about)
    store.update(lambda tx: tx.remove(Table.RESOURCE, "r1"))
    late = store.begin()
    late.create(resource("r3", "kind"))
    store.update(lambda tx: tx.remove(Table.EXTENSION, "e1"))
    assert store.commit(late).verdict is Verdict.CONFLICT, "its kind is gone"
