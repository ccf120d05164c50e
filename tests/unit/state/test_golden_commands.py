"""Every command and snapshot ever written is read by today's code, and written again byte for byte."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from swarmd.model import (
    CAConfig,
    Cluster,
    ClusterSpec,
    EarlierCertificate,
    EncryptionConfig,
    ExternalCA,
    FilterVerdict,
    NetworkDefaults,
    Node,
    NodeCertificate,
    NodeDescription,
    NodeStatus,
    PayloadKey,
    RemovedNode,
    ReplicatedJob,
    ResourceLimits,
    Resources,
    RootCA,
    RootRotation,
    SealedPayload,
    Secret,
    Service,
    ServiceSpec,
    Task,
    TaskDefaults,
    TaskSpec,
    TaskStatus,
    UnlockKey,
    UpdateStatus,
    VirtualIP,
)
from swarmd.pki.payload_keys import payload_of
from swarmd.state import State, Verdict, decode_command, encode_command, encode_snapshot
from swarmd.state.command import TABLE_OF_TYPE
from swarmd.state.selectors import All
from tests.golden import kinds, orchestration, security
from tests.golden.add_commands import HISTORIES, meta_at, samples

FOLDER = Path(__file__).parents[2] / "golden"
COMMANDS = sorted((FOLDER / "commands").glob("*.hex"))
SNAPSHOTS = sorted((FOLDER / "snapshots").glob("*.hex"))


def read(path: Path) -> bytes:
    return bytes.fromhex(path.read_text("ascii"))


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_a_golden_command_is_read_and_written_again(path: Path) -> None:
    assert encode_command(decode_command(read(path))) == read(path)


@pytest.mark.parametrize("path", SNAPSHOTS, ids=lambda path: path.stem)
def test_a_golden_snapshot_is_restored_and_written_again(path: Path) -> None:
    state, meta = State(), meta_at(len(HISTORIES[path.stem]))
    state.restore(meta, [read(path)])
    assert b"".join(encode_snapshot(state.capture(), meta)) == read(path)


def test_todays_transactions_make_the_very_bytes_of_the_corpus() -> None:
    made = {name: body.hex() for history in HISTORIES for name, body in samples(history)[0].items()}
    assert made == {path.stem: read(path).hex() for path in COMMANDS}
    assert {history: samples(history)[1] for history in HISTORIES} == {path.stem: read(path) for path in SNAPSHOTS}


@pytest.mark.parametrize("history", HISTORIES)
def test_the_commands_of_the_corpus_give_its_snapshot(history: str) -> None:
    state = State()
    for index, name in enumerate(HISTORIES[history], 1):
        assert state.apply(index, 3, read(FOLDER / "commands" / f"{name}.hex")).verdict is Verdict.APPLIED
    snapshot = b"".join(encode_snapshot(state.capture(), meta_at(state.index)))
    assert snapshot == read(FOLDER / "snapshots" / f"{history}.hex")


def fields_set(value: Any) -> Iterator[tuple[type, str]]:
    """Every field, at any depth, that is not left at its default."""
    if isinstance(value, msgspec.Struct):
        defaults = msgspec.structs.fields(value)
        for field in defaults:
            held = getattr(value, field.name)
            if held != field.default and held not in ((), {}):
                yield type(value), field.name
            yield from fields_set(held)
    elif isinstance(value, tuple):
        for item in value:
            yield from fields_set(item)


def restored(history: str) -> State:
    state = State()
    state.restore(meta_at(len(HISTORIES[history])), [read(FOLDER / "snapshots" / f"{history}.hex")])
    return state


def fields_of(history: str) -> set[tuple[type, str]]:
    """What the objects at its end have set."""
    state = restored(history)
    return {field for type_ in TABLE_OF_TYPE for object in state.find(type_, All()) for field in fields_set(object)}


def test_the_corpus_sets_every_field_of_the_kinds_that_were_added() -> None:
    found = fields_of("kinds") | fields_of("security")
    found |= {field for object in (kinds.RAW, kinds.ATTACHMENT) for field in fields_set(object)}
    modules = ("networks", "payloads", "volumes", "extensions", "references")
    structs = {
        type_
        for name in modules
        for type_ in vars(importlib.import_module(f"swarmd.model.{name}")).values()
        if isinstance(type_, type) and issubclass(type_, msgspec.Struct) and type_.__module__.endswith(name)
    }
    assert {Secret, SealedPayload} < structs
    assert len(structs) > 20
    wanted = {(type_, field) for type_ in structs for field in type_.__struct_fields__}
    assert {(type_.__name__, field) for type_, field in wanted - found} == set()


OF_SECURITY = {
    CAConfig: ("external_cas", "signing_ca_certificate", "signing_ca_key", "force_rotate"),
    Cluster: ("unlock_key", "payload_keys"),
    EncryptionConfig: ("auto_lock_managers",),
    ExternalCA: ("url", "options", "ca_certificate"),
    PayloadKey: ("id", "key"),
    RemovedNode: ("fingerprints",),
    RootCA: ("rotation", "last_forced_rotation"),
    RootRotation: ("certificate", "cross_signed", "key", "started_at"),
    SealedPayload: ("key_id", "nonce", "ciphertext"),
    Secret: ("sealed",),
    UnlockKey: ("version", "key"),
}
"""The fields that need the feature `security.1` and are there at the end of its history. Those of a node: below."""


def test_the_corpus_sets_every_field_that_came_with_security() -> None:
    found = fields_of("security") | set(fields_set(security.NODE))
    of_node = {
        Node: ("certificate", "status"),
        NodeCertificate: ("fingerprint", "earlier"),
        NodeStatus: ("certificate", "issuer"),
        EarlierCertificate: ("fingerprint", "expires_at", "is_revoked", "role"),
    }
    wanted = {(type_, field) for type_, fields in (OF_SECURITY | of_node).items() for field in fields}
    assert {(type_.__name__, field) for type_, field in wanted - found} == set()
    claims = decode_command(read(FOLDER / "commands" / "security-certify.hex")).claims
    assert [claim.index for claim in claims] == ["node.request"]


OF_ORCHESTRATION = {
    Cluster: ("spec",),
    ClusterSpec: ("task_defaults", "networks"),
    NetworkDefaults: ("default_address_pools", "subnet_size", "vxlan_port"),
    Node: ("attachments",),
    NodeDescription: ("plugins", "resources"),
    Resources: ("generic",),
    ResourceLimits: ("generic",),
    Service: ("update_status", "job_status", "endpoint", "rebalancing"),
    ServiceSpec: ("mode", "update", "rollback", "endpoint", "depends_on"),
    Task: (*("endpoint", "networks", "log_driver", "assigned_generic_resources", "job_iteration", "failures"),),
    TaskDefaults: ("log_driver",),
    TaskSpec: ("log_driver", "placement"),
    TaskStatus: ("unplaced",),
}
"""The fields of other modules' structs that need the feature `orchestration.1`."""


def test_the_corpus_sets_every_field_that_came_with_orchestration() -> None:
    found = fields_of("orchestration") | set(fields_set(orchestration.UPDATE)) | set(fields_set(orchestration.BASE))
    structs = {
        type_
        for name in ("modes", "placement", "endpoints")
        for type_ in vars(importlib.import_module(f"swarmd.model.{name}")).values()
        if isinstance(type_, type) and issubclass(type_, msgspec.Struct) and type_.__module__.endswith(name)
    }
    assert {ReplicatedJob, UpdateStatus, FilterVerdict, VirtualIP} < structs
    wanted = {(type_, field) for type_ in structs for field in type_.__struct_fields__}
    wanted |= {(type_, field) for type_, fields in OF_ORCHESTRATION.items() for field in fields}
    assert {(type_.__name__, field) for type_, field in wanted - found} == set()
    claims = {
        claim.index
        for name in ("create-the-swarm", "create-services-of-every-mode", "explain-then-place")
        for claim in decode_command(read(FOLDER / "commands" / f"orchestration-{name}.hex")).claims
    }
    assert {"network.every", "service.port", "task.slot"} <= claims


def test_what_was_once_sealed_opens_to_the_same_bytes() -> None:
    """Its form is as unchangeable as that of commands: a label or an order of parts would lock every secret away."""
    state = restored("security")
    cluster, secret = state.cluster(), state.get(Secret, security.SECRET.id)
    assert cluster is not None
    assert secret is not None
    assert [key.id for key in cluster.payload_keys] == [1, 2]
    assert payload_of(cluster, secret) == security.PAYLOAD
