"""The state against plain dicts, and two replicas against each other: one applies live objects, one their bytes."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from swarmd.errors import AlreadyExists, FailedPrecondition, NotFound
from swarmd.model import Availability, Node, Service, StoredObject, Task, TaskState, TaskStatus
from swarmd.raft import SnapshotMeta
from swarmd.state import (
    IdempotencyKey,
    Route,
    State,
    Table,
    Transaction,
    Verdict,
    encode_snapshot,
    is_schedulable,
)
from tests.unit.state.builders import Proposer, node, service, task

TASKS = st.sampled_from(["t1", "t2", "t3", "t4"])
SERVICES = st.sampled_from(["s1", "s2", "s3"])
NAMES = st.sampled_from(["web", "WEB", "db"])
NODES = st.sampled_from(["n1", "n2", ""])
STATES = st.sampled_from([TaskState.NEW, TaskState.PENDING, TaskState.ASSIGNED, TaskState.RUNNING, TaskState.FAILED])
Model = dict[tuple[type, str], StoredObject]


class AgainstDicts(RuleBasedStateMachine):
    """The model holds objects without stamps, and knows nothing of indexes, versions or claims."""

    def __init__(self) -> None:
        super().__init__()
        self.proposer = Proposer(results_max=3)
        self.model: Model = {}
        self.pending: list[Transaction] = []
        self.copy: Model = {}
        self.subscription = self.proposer.state.subscribe([Route(table) for table in Table], wake=lambda: None)
        self.keys = 0

    # -- one write each, at once -----------------------------------------------------------------------------------
    def write(self, fn: Any, expected: Model, *, removed: tuple[tuple[type, str], ...] = ()) -> None:
        tx = self.proposer.begin()
        try:
            fn(tx)
        except (AlreadyExists, NotFound, FailedPrecondition):
            return
        assert self.proposer.commit(tx).verdict is Verdict.APPLIED
        self.model.update(expected)
        for key in removed:
            del self.model[key]

    def holder_of(self, name: str) -> str | None:
        held = [o.id for (t, _), o in self.model.items() if isinstance(o, Service) and o.spec.name == name.lower()]
        return held[0] if held else None

    @rule(id=SERVICES, name=NAMES)
    def put_service(self, id: str, name: str) -> None:
        holder = self.holder_of(name)
        exists = (Service, id) in self.model
        tx = self.proposer.begin()
        try:
            (tx.update if exists else tx.create)(service(id, name))
        except AlreadyExists:
            assert holder not in (None, id)
            return
        assert holder in (None, id)
        self.proposer.commit(tx)
        self.model[Service, id] = service(id, name.lower())

    @rule(id=TASKS, service_id=SERVICES, slot=st.integers(1, 2), node_id=NODES)
    def put_task(self, id: str, service_id: str, slot: int, node_id: str) -> None:
        new = task(id, service_id, slot=slot, node_id=node_id)
        exists = (Task, id) in self.model
        self.write(lambda tx: (tx.update if exists else tx.create)(new), {(Task, id): new})

    @rule(id=st.sampled_from(["n1", "n2"]), ready=st.booleans(), drained=st.booleans())
    def put_node(self, id: str, *, ready: bool, drained: bool) -> None:
        new = node(id, ready=ready, availability=Availability.DRAIN if drained else Availability.ACTIVE)
        exists = (Node, id) in self.model
        self.write(lambda tx: (tx.update if exists else tx.create)(new), {(Node, id): new})

    @rule(id=TASKS)
    def remove_task(self, id: str) -> None:
        self.write(lambda tx: tx.remove(Table.TASK, id), {}, removed=((Task, id),))

    @rule(id=SERVICES)
    def remove_service(self, id: str) -> None:
        self.write(lambda tx: tx.remove(Table.SERVICE, id), {}, removed=((Service, id),))

    @rule(id=TASKS, node_id=st.sampled_from(["n1", "n2"]))
    def assign(self, id: str, node_id: str) -> None:
        known, target = self.model.get((Task, id)), self.model.get((Node, node_id))
        status = TaskStatus(state=TaskState.ASSIGNED)
        may = (
            isinstance(known, Task)
            and not known.node_id
            and known.status.state <= TaskState.ASSIGNED
            and isinstance(target, Node)
            and is_schedulable(target)
        )
        tx = self.proposer.begin()
        try:
            tx.assign(id, node_id, status)
        except (NotFound, FailedPrecondition):
            assert not may
            return
        assert may
        self.proposer.commit(tx)
        assert isinstance(known, Task)
        self.model[Task, id] = replace(known, node_id=node_id, status=status)

    @rule(id=TASKS, node_id=NODES, state=STATES, message=st.sampled_from(["", "x"]))
    def report(self, id: str, node_id: str, state: TaskState, message: str) -> None:
        known = self.model.get((Task, id))
        expected: Model = {}
        if isinstance(known, Task) and node_id in ("", known.node_id):
            old = known.status
            if state > old.state or (state == old.state and message != old.message):
                status = TaskStatus(state=state, message=message, applied_at=self.proposer.now)
                expected[Task, id] = replace(known, status=status)
        self.write(lambda tx: tx.report(node_id, id, TaskStatus(state=state, message=message)), expected)

    # -- transactions that land later ------------------------------------------------------------------------------
    @rule(id=TASKS, service_id=SERVICES)
    def begin_filling_an_empty_service(self, id: str, service_id: str) -> None:
        tx = self.proposer.begin()
        if not tx.tasks_of_service(service_id) and tx.task(id) is None:
            tx.create(task(id, service_id))
            self.pending.append(tx)

    @rule()
    def commit_what_was_begun(self) -> None:
        if not self.pending:
            return
        tx = self.pending.pop(0)
        [created] = [change.object for change in self.proposer.command(tx).changes if hasattr(change, "object")]
        assert isinstance(created, Task)
        outcome = self.proposer.commit(tx)
        others = [o for o in self.model.values() if isinstance(o, Task) and o.service_id == created.service_id]
        if outcome.verdict is Verdict.APPLIED:
            assert not others
            assert (Task, created.id) not in self.model
            self.model[Task, created.id] = created

    @rule(id=st.sampled_from(["r1", "r2"]))
    def create_with_a_key_and_retry(self, id: str) -> None:
        if self.proposer.state.removed_node(id) is not None:
            return
        self.keys += 1
        key = IdempotencyKey(b"k%d" % self.keys, b"r", self.proposer.state.index)
        first, retry = self.proposer.begin(), self.proposer.begin()
        for tx in (first, retry):
            tx.create(service(f"{id}-{self.keys}"))
        assert self.proposer.commit(first, key=key).verdict is Verdict.APPLIED
        assert self.proposer.commit(retry, key=key).verdict is Verdict.DUPLICATE
        self.model[Service, f"{id}-{self.keys}"] = service(f"{id}-{self.keys}")

    # -- the log goes on -------------------------------------------------------------------------------------------
    @rule(body=st.binary(max_size=3))
    def skip_an_entry(self, body: bytes) -> None:
        index = self.proposer.state.index + 1
        self.proposer.state.skip(index, body)
        self.proposer.replica.skip(index, body)

    @rule()
    def replace_the_replica_by_a_snapshot(self) -> None:
        meta = SnapshotMeta(index=self.proposer.state.index, term=1)
        restored = State(results_max=3)
        restored.restore(meta, encode_snapshot(self.proposer.state.capture(), meta))
        self.proposer.replica = restored

    # -- what always holds -----------------------------------------------------------------------------------------
    @invariant()
    def content_is_the_models(self) -> None:
        state = self.proposer.state
        held = {(type(o), o.id): bare(o) for o in (*state.nodes(), *state.services(), *state.tasks())}
        assert held == {key: bare(object) for key, object in self.model.items()}

    @invariant()
    def indexes_are_what_a_scan_finds(self) -> None:
        for state in (self.proposer.state, self.proposer.replica):
            tasks = list(state.tasks())
            for service_id in ("s1", "s2", "s3"):
                expected = [t.id for t in tasks if t.service_id == service_id]
                assert {t.id for t in state.tasks_of_service(service_id)} == set(expected)
                for slot in (1, 2):
                    expected = [t.id for t in tasks if (t.service_id, t.slot) == (service_id, slot)]
                    assert {t.id for t in state.tasks_of_slot(service_id, slot)} == set(expected)
            for node_id in ("n1", "n2"):
                assert {t.id for t in state.tasks_of_node(node_id)} == {t.id for t in tasks if t.node_id == node_id}
            for name in ("web", "db"):
                found = state.service_by_name(name)
                assert (found.id if found else None) == self.holder_of(name)

    @invariant()
    def replicas_are_equal(self) -> None:
        assert self.proposer.replica.digest == self.proposer.state.digest
        assert self.proposer.replica.state_hash() == self.proposer.state.state_hash()

    @invariant()
    def a_copy_kept_by_events_is_equal(self) -> None:
        for event in self.subscription.take():
            key = (type(event.new or event.old), event.id)
            assert self.copy.get(key) == event.old
            if event.new is None:
                del self.copy[key]
            else:
                self.copy[key] = event.new
        state = self.proposer.state
        assert self.copy == {(type(o), o.id): o for o in (*state.nodes(), *state.services(), *state.tasks())}


def bare(object: StoredObject) -> StoredObject:
    """Without stamps, and a service's name in lower case."""
    if isinstance(object, Service):
        object = replace(object, spec=replace(object.spec, name=object.spec.name.lower()))
    return replace(object, meta=task("x").meta)


TestAgainstDicts = AgainstDicts.TestCase
TestAgainstDicts.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
