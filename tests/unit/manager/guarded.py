"""A swarm with something recognisable in every secret place of its state, and eyes on everything that is told of it."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from swarmd.manager.control_api.secret_fields import ASSIGNMENTS, SECRET
from swarmd.model import (
    Annotations,
    CAConfig,
    Cluster,
    ClusterSpec,
    Config,
    ConfigSpec,
    ContainerSpec,
    Driver,
    EncryptionConfig,
    Extension,
    ExternalCA,
    IssuanceState,
    JoinTokens,
    Membership,
    Network,
    NetworkSpec,
    Node,
    NodeCertificate,
    NodeDescription,
    NodeSpec,
    NodeState,
    NodeStatus,
    PayloadKey,
    Replicated,
    Resource,
    Role,
    RootCA,
    RootRotation,
    Secret,
    SecretSpec,
    Service,
    ServiceSpec,
    StoredObject,
    TaskSpec,
    TaskState,
    UnlockKey,
    Volume,
    VolumeAccessMode,
    VolumeInfo,
    VolumePublishStatus,
    VolumeSpec,
)
from swarmd.pki import Authority, new_key_and_csr, new_token, root_digest
from swarmd.state.command import TABLE_OF_TYPE, CommandId, Verdict
from swarmd.state.features import KINDS, ORCHESTRATION, SECURITY
from swarmd.state.selectors import All
from swarmd.state.transaction import Transaction
from tests.unit.manager.audit.audited import OPERATOR, Recorder
from tests.unit.manager.control_api.api_world import ROOT, SWARM, World, service_spec, task_of
from tests.unit.manager.local_store import EPOCH

AUTHORITY = Authority.create(EPOCH)
NEXT = Authority.create(EPOCH)
_, CSR = new_key_and_csr()
"""Of the node that waits."""
DIGEST = root_digest(AUTHORITY.certificate)
PAYLOAD = b"payload<correct horse battery staple>"
"""Of the secret that is created through the API."""

Place = tuple[str, str]
"""A type and its field: `("Secret", "data")`."""


def canary(name: str) -> bytes:
    """32 bytes that nothing else holds."""
    return f"canary<{name}>".encode().ljust(32, b"~")[:32]


def options(name: str) -> dict[str, str]:
    return {"option": canary(name).decode()}


def middle_of(pem: bytes) -> bytes:
    """A line of what was encoded: the first is the same for every key of its kind."""
    return pem.splitlines()[2][:32]


TOKENS = JoinTokens(worker=new_token(DIGEST, random.Random(1)), manager=new_token(DIGEST, random.Random(2)))

CANARIES: dict[str, tuple[bytes, Place]] = {
    "root key": (middle_of(AUTHORITY.key), ("RootCA", "key")),
    "next root key": (middle_of(NEXT.key), ("RootRotation", "key")),
    "wanted key": (canary("wanted key"), ("CAConfig", "signing_ca_key")),
    "wanted root": (canary("wanted root"), ("CAConfig", "signing_ca_certificate")),
    "unlock key": (canary("unlock key"), ("UnlockKey", "key")),
    "payload key": (canary("payload key"), ("PayloadKey", "key")),
    "older payload key": (canary("older payload key"), ("PayloadKey", "key")),
    "external CA": (canary("external CA"), ("ExternalCA", "options")),
    "worker token": (TOKENS.worker[-25:].encode(), ("JoinTokens", "worker")),
    "manager token": (TOKENS.manager[-25:].encode(), ("JoinTokens", "manager")),
    "request": (canary("request"), ("NodeCertificate", "csr")),
    "certificate": (canary("certificate"), ("NodeCertificate", "certificate")),
    "payload": (PAYLOAD, ("SecretSpec", "data")),
    "unsealed payload": (canary("unsealed payload"), ("SecretSpec", "data")),
    "config": (canary("config"), ("ConfigSpec", "data")),
    "resource": (canary("resource"), ("Resource", "payload")),
    "log driver": (canary("log driver"), ("Driver", "options")),
    "template": (canary("template"), ("Driver", "options")),
    "publish context": (canary("publish context"), ("VolumePublishStatus", "publish_context")),
    "volume context": (canary("volume context"), ("VolumeInfo", "volume_context")),
    "variable": (canary("variable"), ("ContainerSpec", "env")),
}
"""What is planted, and where. A sealed payload's nonce and ciphertext are added once there is one."""


def value(name: str) -> bytes:
    return CANARIES[name][0]


# -- the state -------------------------------------------------------------------------------------------------------
LOG_DRIVER = Driver(name="syslog", options=options("log driver"))
TEMPLATE = Driver(name="golang", options=options("template"))
SPEC = TaskSpec(
    container=ContainerSpec(image="app:1", env=(f"PASSWORD={value('variable').decode()}",)), log_driver=LOG_DRIVER
)
CERTIFICATE = NodeCertificate(
    csr=value("request"), certificate=value("certificate"), state=IssuanceState.ISSUED, expires_at=EPOCH + 1000
)
CLUSTER = Cluster(
    id=SWARM,
    spec=ClusterSpec(
        ca=CAConfig(external_cas=(ExternalCA(url="https://ca", options=options("external CA"), ca_certificate=ROOT),)),
        encryption=EncryptionConfig(auto_lock_managers=True),
    ),
    root_ca=RootCA(
        certificate=AUTHORITY.certificate,
        key=AUTHORITY.key,
        digest=DIGEST,
        join_tokens=TOKENS,
        rotation=RootRotation(
            certificate=NEXT.certificate, cross_signed=AUTHORITY.cross_sign(NEXT.certificate), key=NEXT.key
        ),
    ),
    unlock_key=UnlockKey(version=1, key=value("unlock key")),
    payload_keys=(PayloadKey(id=1, key=value("older payload key")), PayloadKey(id=2, key=value("payload key"))),
    feature_level=(KINDS, SECURITY, ORCHESTRATION),
)


def node(id: str, *, role: Role = Role.WORKER, state: NodeState = NodeState.READY) -> Node:
    return Node(
        id=id,
        role=role,
        spec=NodeSpec(desired_role=role),
        description=NodeDescription(hostname=f"host-{id}"),
        status=NodeStatus(state=state),
        certificate=CERTIFICATE,
    )


def waiting_node(id: str) -> Node:
    return Node(
        id=id,
        spec=NodeSpec(membership=Membership.PENDING),
        certificate=NodeCertificate(csr=CSR, state=IssuanceState.PENDING),
    )


OBJECTS: tuple[StoredObject, ...] = (
    node("m1", role=Role.MANAGER),
    node("w1"),
    node("w2", state=NodeState.DOWN),
    waiting_node("p1"),
    Secret(id="unsealed", spec=SecretSpec(name="unsealed", data=value("unsealed payload"), templating=TEMPLATE)),
    Config(id="config", spec=ConfigSpec(name="config", data=value("config"), templating=TEMPLATE)),
    Extension(id="extension", annotations=Annotations(name="kind")),
    Resource(id="resource", annotations=Annotations(name="resource"), kind="kind", payload=value("resource")),
    Network(id="network", spec=NetworkSpec(name="network", driver_config=LOG_DRIVER)),
    Volume(
        id="volume",
        spec=VolumeSpec(name="volume", driver=LOG_DRIVER, access_mode=VolumeAccessMode()),
        publish_status=(VolumePublishStatus(node_id="w1", publish_context=options("publish context")),),
        volume_info=VolumeInfo(volume_context=options("volume context")),
    ),
    Service(
        id="service",
        spec=ServiceSpec(name="service", task=SPEC, mode=Replicated(replicas=1)),
        previous_spec=ServiceSpec(name="service", task=SPEC),
    ),
    replace(task_of("task", "service", node="w1", state=TaskState.ASSIGNED), spec=SPEC, log_driver=LOG_DRIVER),
)


class Guarded(World):
    """`audit` is what the trail says of every entry."""

    def __init__(self) -> None:
        super().__init__()
        self.audit = Recorder()
        self.store.state.tap = self.audit
        bare = Cluster(id=SWARM, feature_level=CLUSTER.feature_level)
        self.plant(lambda tx: tx.create(bare), lambda tx: tx.update(CLUSTER))
        self.plant(*(partial(Transaction.create, object=object) for object in OBJECTS))

    def plant(self, *fns: Callable[[Transaction], object]) -> None:
        """Each as a change that an operator asked for, so that the audit tells of it."""
        for number, fn in enumerate(fns):
            tx = self.store.state.begin(EPOCH, self.store.rng)
            fn(tx)
            id = CommandId(2, self.store.rng.randbytes(16), number)
            assert self.store.apply(tx.command(id, actor=OPERATOR)) is Verdict.APPLIED

    def objects(self) -> Iterator[StoredObject]:
        """Everything that is stored."""
        for type_ in TABLE_OF_TYPE:
            yield from self.store.state.find(type_, All())

    def plain_service(self) -> ServiceSpec:
        """One that the API takes today."""
        spec = service_spec("other")
        container = replace(spec.task.container, env=SPEC.container.env)
        return replace(spec, task=replace(spec.task, container=container))


def places_in(value: Any) -> Iterator[tuple[Place, Any]]:
    """Every field of a struct, at any depth, that is on the list of secrets, and what it holds."""
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            held = getattr(value, name)
            if held and ((type(value), name) in SECRET or (type(value), name) in ASSIGNMENTS):
                yield (type(value).__name__, name), held
            yield from places_in(held)
    elif isinstance(value, tuple):
        for item in value:
            yield from places_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from places_in(item)


# -- what is told ----------------------------------------------------------------------------------------------------
def spellings(secret: bytes) -> tuple[bytes, ...]:
    """How bytes are written: as they are, in hexadecimal, in base64 (whole groups of a field that begins with them),
    and as Python's `repr` does."""
    whole = base64.b64encode(secret[: len(secret) // 3 * 3])
    return (secret, secret.hex().encode(), whole, repr(secret)[2:-1].encode())


def seen_in(told: bytes | str, extra: dict[str, tuple[bytes, Place]] | None = None) -> set[str]:
    """The names of the canaries that somebody who reads `told` has."""
    text = told.encode() if isinstance(told, str) else told
    known = CANARIES | (extra or {})
    return {name for name, (secret, _) in known.items() if any(spelling in text for spelling in spellings(secret))}
