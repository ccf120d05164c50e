"""Objects and a proposer for the tests of the state: what a manager does around `State`, without Raft."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from swarmd.model import (
    Annotations,
    Cluster,
    Config,
    ConfigReference,
    ConfigSpec,
    ContainerSpec,
    Driver,
    Extension,
    IndexEntry,
    Network,
    NetworkAttachmentConfig,
    NetworkSpec,
    Node,
    NodeDescription,
    NodeSpec,
    NodeState,
    NodeStatus,
    Replicated,
    Resource,
    Secret,
    SecretReference,
    SecretSpec,
    Service,
    ServiceSpec,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
    Volume,
    VolumeSpec,
)
from swarmd.state import (
    Command,
    CommandId,
    IdempotencyKey,
    Outcome,
    State,
    Transaction,
    Verdict,
    encode_command,
)
from swarmd.state.features import KINDS

SPEC = TaskSpec(container=ContainerSpec(image="web"))


def service(id: str, name: str = "", **fields: Any) -> Service:
    return Service(id=id, spec=ServiceSpec(name=name or id, task=SPEC, mode=Replicated(replicas=1)), **fields)


def task(id: str, service_id: str = "", *, slot: int = 1, node_id: str = "", state: TaskState = TaskState.NEW) -> Task:
    return Task(id=id, service_id=service_id, slot=slot, node_id=node_id, spec=SPEC, status=TaskStatus(state=state))


def node(id: str, hostname: str = "", *, ready: bool = True, **spec: Any) -> Node:
    return Node(
        id=id,
        description=NodeDescription(hostname=hostname),
        spec=NodeSpec(**spec),
        status=NodeStatus(state=NodeState.READY, confirmed=True) if ready else NodeStatus(),
    )


# -- kinds that need a swarm which knows them --------------------------------------------------------------------------
def swarm(*features: str) -> Cluster:
    return Cluster(id="swarm", feature_level=features or (KINDS,))


def indices(*entries: tuple[str, str]) -> tuple[IndexEntry, ...]:
    return tuple([IndexEntry(key=key, value=value) for key, value in entries])


def template(networks: Sequence[str] = (), secrets: Sequence[str] = (), configs: Sequence[str] = ()) -> TaskSpec:
    container = ContainerSpec(
        image="web",
        secrets=tuple([SecretReference(secret_id=id, secret_name=id) for id in secrets]),
        configs=tuple([ConfigReference(config_id=id, config_name=id) for id in configs]),
    )
    return TaskSpec(container=container, networks=tuple([NetworkAttachmentConfig(target=id) for id in networks]))


def network(id: str, name: str = "", **spec: Any) -> Network:
    return Network(id=id, spec=NetworkSpec(name=name or id, **spec))


def secret(id: str, name: str = "", **spec: Any) -> Secret:
    return Secret(id=id, spec=SecretSpec(name=name or id, **{"data": b"hush"} | spec))


def config(id: str, name: str = "", **spec: Any) -> Config:
    return Config(id=id, spec=ConfigSpec(name=name or id, **{"data": b"setting"} | spec))


def volume(id: str, name: str = "", *, group: str = "", driver: str = "", **spec: Any) -> Volume:
    by = Driver(name=driver) if driver else None
    return Volume(id=id, spec=VolumeSpec(name=name or id, group=group, driver=by, **spec))


def extension(id: str, name: str = "", **annotations: Any) -> Extension:
    return Extension(id=id, annotations=Annotations(name=name or id, **annotations))


def resource(id: str, kind: str, name: str = "", **annotations: Any) -> Resource:
    return Resource(id=id, annotations=Annotations(name=name or id, **annotations), kind=kind, payload=b"opaque")


class Proposer:
    """A state and the one way to change it; every command also passes through bytes on a second replica."""

    def __init__(self, **state: Any) -> None:
        self.state = State(**state)
        self.replica = State(**state)
        self.rng = random.Random(7)
        self.now = 1000.0
        self.sequence = 0

    def begin(self) -> Transaction:
        return self.state.begin(self.now, self.rng)

    def command(
        self, tx: Transaction, *, actor: str = "a", term: int = 0, key: IdempotencyKey | None = None
    ) -> Command:
        self.sequence += 1
        return tx.command(CommandId(1, b"boot", self.sequence), actor=actor, term=term, key=key)

    def apply(self, command: Command, *, term: int = 1) -> Outcome:
        body = encode_command(command)
        index = self.state.index + 1
        outcome = self.state.apply(index, term, body, command)
        assert self.replica.apply(index, term, body) == outcome
        assert self.replica.digest == self.state.digest
        return outcome

    def commit(self, tx: Transaction, **options: Any) -> Outcome:
        return self.apply(self.command(tx, **options))

    def update(self, fn: Callable[[Transaction], object], **options: Any) -> Outcome:
        """Run `fn` and commit what it wrote, which must take effect."""
        tx = self.begin()
        fn(tx)
        outcome = self.commit(tx, **options)
        assert outcome.verdict is Verdict.APPLIED, outcome
        return outcome

    def create(self, *objects: Any) -> Outcome:
        def fn(tx: Transaction) -> None:
            for object in objects:
                tx.create(object)

        return self.update(fn)
