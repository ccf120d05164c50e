"""Nothing secret leaves by any door: every method there is, watches, the audit, dumps, logs, representations.

Something recognisable stands in every secret place of the state (`guarded`), and what each door tells is looked through
for all of it. `DOCUMENTED` says what may be told where, and is looked for as well: a door that stops telling it, or a
spelling that is not recognised any more, fails too.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from swarmd.errors import SwarmError
from swarmd.manager.autolock import Autolock, not_locked
from swarmd.manager.ca_server import CAServer
from swarmd.manager.control_api.redact import _may_hold_secrets
from swarmd.manager.control_api.secret_fields import ASSIGNMENTS, SECRET
from swarmd.manager.dispatcher import Dispatcher
from swarmd.manager.dump import Range, dump, dump_objects
from swarmd.model import (
    CAConfig,
    ConfigSpec,
    NetworkSpec,
    NodeDescription,
    Secret,
    SecretSpec,
    TaskState,
    TaskStatus,
    UnlockKey,
)
from swarmd.pki import join_code, new_key_and_csr
from swarmd.raft import Entry, EntryKind
from swarmd.state.command import encode_command
from swarmd.storage.disk_keys import InClear
from swarmd.wire import codec
from swarmd.wire.ca import IssueRequest, RootRequest, StatusRequest
from swarmd.wire.cluster import GetCluster, GetUnlockKey, Unlock, UpdateCluster
from swarmd.wire.control import (
    AcceptNode,
    CreateService,
    GetObject,
    ListNodes,
    ListServices,
    ListTasks,
    RejectNode,
    RemoveNode,
    RemoveObject,
    UpdateNode,
    UpdateService,
)
from swarmd.wire.control import StatusRequest as ManagerStatusRequest
from swarmd.wire.dispatch import (
    AssignmentsRequest,
    GoodbyeRequest,
    HeartbeatRequest,
    ReportedStatus,
    SessionRequest,
    UpdateStatusRequest,
)
from swarmd.wire.identity import Caller
from swarmd.wire.methods import METHODS
from swarmd.wire.networks import CreateNetwork
from swarmd.wire.orchestration import RebalanceService, RollbackService
from swarmd.wire.payloads import CreateConfig, CreateSecret, ListPayloads, UpdateConfig, UpdateSecret
from swarmd.wire.raft_status import RaftStatusRequest
from swarmd.wire.watch import WatchRequest
from tests.unit.manager.control_api.test_watch import watch
from tests.unit.manager.guarded import (
    AUTHORITY,
    CANARIES,
    CSR,
    PAYLOAD,
    TOKENS,
    Guarded,
    Place,
    places_in,
    seen_in,
    value,
    waiting_node,
)
from tests.unit.manager.swarm_fixture import call_of
from tests.unit.manager.test_dump import log_of

TASK: Final = frozenset({"log driver", "variable"})
"""What users write in a service's template comes back to who may read the service: they have to be able to edit it."""
NETWORK: Final = frozenset({"log driver"})
"""The options of a network's driver, of the same type as a log driver's: whoever may read the network reads them."""
TOKENS_SHOWN: Final = frozenset({"worker token", "manager token"})
OWN_IDENTITY: Final = frozenset({"request", "certificate"})

DOCUMENTED: Final[dict[str, frozenset[str]]] = {
    "cluster.get": TOKENS_SHOWN,
    "cluster.update": TOKENS_SHOWN,
    "ca.unlock_key": frozenset({"unlock key"}),
    "ca.status": frozenset({"certificate"}),
    "config.get": frozenset({"config", "template"}),
    "config.create": frozenset({"config"}),
    "config.update": frozenset({"config", "template"}),
    **dict.fromkeys(("service.list", "service.get", "task.list", "task.get"), TASK),
    "service.create": frozenset({"variable"}),
    "service.update": frozenset({"variable"}),
    **dict.fromkeys(("service.rollback", "service.rebalance", "service.rebalance_plan"), frozenset({"variable"})),
    **dict.fromkeys(("service.why", "task.why"), TASK),
    "network.list": NETWORK,
    "dispatcher.session": OWN_IDENTITY,
    "dispatcher.assignments": TASK,
    "watch": frozenset({"variable"}),
}
"""Method -> what its replies hold on purpose."""

WHOLE_STATE: Final = frozenset({"raft.messages", "raft.snapshot"})
"""Between managers, each of whom has the whole state."""
NOT_HERE: Final = {
    "raft.join": "who the members are",
    "raft.leave": "nothing",
    "raft.digest": "one index",
    "raft.disk": "nothing",
    "raft.rotate_key": "numbers of keys",
    "health": "who answers",
}
"""Methods whose replies cannot hold bytes or stored objects at all, which is looked at instead."""


class Doors:
    """`told` by method; every method is asked once, against one state."""

    def __init__(self, world: Guarded) -> None:
        self.world = world
        self.told: dict[str, bytes] = {}
        self.autolock = Autolock(
            lambda: world.store.state,
            NoDisk(),
            linearize=trio.lowlevel.checkpoint,
            rotate_data_key=_never,
            renew=lambda: None,
        )
        self.ca = CAServer(world.store, local_root=lambda: AUTHORITY.certificate)

    async def ask(self, name: str, request: Any) -> Any:
        """Of the control API."""
        reply = await self.world.ask(METHODS[name], request)
        self.note(name, reply)
        return reply

    def note(self, name: str, reply: Any) -> None:
        self.told[name] = self.told.get(name, b"") + codec.encode(reply) + repr(reply).encode()


class NoDisk:
    """Nothing is on it."""

    kek = UnlockKey()

    def change(self, wanted: UnlockKey) -> bool:
        raise AssertionError

    def in_clear(self) -> InClear:
        raise AssertionError


async def _never() -> int:
    raise AssertionError


async def ask_about_nodes(doors: Doors) -> None:
    spec = doors.world.store.state.node("w1").spec  # type: ignore[union-attr]
    await doors.ask("node.list", ListNodes())
    await doors.ask("node.get", GetObject(id="w1"))
    await doors.ask("node.update", UpdateNode(id="w1", spec=replace(spec, labels={"a": "b"})))
    await doors.ask("node.renew", GetObject(id="w2"))
    await doors.ask("node.remove", RemoveNode(id="w2"))
    await doors.ask("node.accept", AcceptNode(id="p1", join_code=join_code(AUTHORITY.certificate, CSR)))
    doors.world.plant(lambda tx: tx.create(waiting_node("p2")))
    await doors.ask("node.reject", RejectNode(id="p2"))


async def ask_about_services(doors: Doors) -> None:
    await doors.ask("service.list", ListServices())
    await doors.ask("service.get", GetObject(id="service"))
    spec = doors.world.plain_service()
    made = await doors.ask("service.create", CreateService(spec=spec))
    changed = replace(spec, labels={"a": "b"})
    await doors.ask("service.update", UpdateService(id=made.service.id, spec=changed, spec_version=1))
    await doors.ask("service.rebalance_plan", RebalanceService(id=made.service.id))
    await doors.ask("service.rebalance", RebalanceService(id=made.service.id))
    await doors.ask("service.rollback", RollbackService(id=made.service.id))
    await doors.ask("service.why", GetObject(id="service"))
    await doors.ask("task.why", GetObject(id="task"))
    await doors.ask("service.remove", RemoveObject(id=made.service.id))
    await doors.ask("task.list", ListTasks())
    await doors.ask("task.get", GetObject(id="task"))


async def ask_about_payloads(doors: Doors) -> None:
    made = await doors.ask("secret.create", CreateSecret(spec=SecretSpec(name="sealed", data=PAYLOAD)))
    id = made.secret.id
    await doors.ask("secret.list", ListPayloads())
    await doors.ask("secret.get", GetObject(id="unsealed"))
    await doors.ask("secret.get", GetObject(id=id))
    update = UpdateSecret(id=id, spec=SecretSpec(name="sealed", data=PAYLOAD, labels={"a": "b"}))
    await doors.ask("secret.update", update)
    other = await doors.world.ask(METHODS["secret.create"], CreateSecret(spec=SecretSpec(name="n", data=PAYLOAD)))
    await doors.ask("secret.remove", RemoveObject(id=other.secret.id))
    await doors.ask("config.list", ListPayloads())
    await doors.ask("config.get", GetObject(id="config"))
    spec = ConfigSpec(name="other", data=value("config"))
    made = await doors.ask("config.create", CreateConfig(spec=spec))
    await doors.ask("config.remove", RemoveObject(id=made.config.id))
    shown = (await doors.world.ask(METHODS["config.get"], GetObject(id="config"))).config.spec
    await doors.ask("config.update", UpdateConfig(id="config", spec=replace(shown, labels={"a": "b"})))


async def ask_about_networks(doors: Doors) -> None:
    made = await doors.ask("network.create", CreateNetwork(spec=NetworkSpec(name="net")))
    await doors.ask("network.list", ListPayloads())
    await doors.ask("network.get", GetObject(id=made.network.id))
    await doors.ask("network.remove", RemoveObject(id=made.network.id))


async def ask_about_the_cluster(doors: Doors) -> None:
    shown = (await doors.ask("cluster.get", GetCluster())).cluster
    spec = replace(shown.spec, labels={"a": "b"})
    await doors.ask("cluster.update", UpdateCluster(id=shown.id, spec=spec))
    await doors.ask("status", ManagerStatusRequest())
    await doors.ask("raft.status", RaftStatusRequest())
    doors.note("ca.unlock_key", await doors.autolock.tell(call_of(Caller()), GetUnlockKey()))
    with pytest.raises(SwarmError) as caught:
        await not_locked(call_of(Caller()), Unlock(key=value("unlock key").decode()))
    doors.note("cluster.unlock", caught.value.message)


async def ask_the_ca(doors: Doors) -> None:
    caller = Caller(address="192.0.2.7:1")
    _, csr = new_key_and_csr()
    doors.note("ca.root", await doors.ca.root(call_of(caller), RootRequest()))
    doors.note("ca.issue", await doors.ca.issue(call_of(caller), IssueRequest(csr=csr, token=TOKENS.worker)))
    digest = hashlib.sha256(value("request")).digest()
    request = StatusRequest(node_id="m1", csr_sha256=digest)
    doors.note("ca.status", await doors.ca.status(call_of(caller), request))


async def ask_the_dispatcher(doors: Doors) -> None:
    store = doors.world.store
    dispatcher = Dispatcher(store, managers=lambda: (), revoked=lambda: (), now=store.now, rng=store.rng)
    request = SessionRequest(description=NodeDescription(hostname="box"))
    async with trio.open_nursery() as nursery:
        await nursery.start(dispatcher.run)
        async with dispatcher.session("w1", "192.0.2.1:1", request) as stream:
            first = await stream.__anext__()
            id = first.session_id
            doors.note("dispatcher.session", first)
            beat = await dispatcher.heartbeat("w1", HeartbeatRequest(session_id=id))
            doors.note("dispatcher.heartbeat", beat)
            async with dispatcher.assignments("w1", AssignmentsRequest(session_id=id)) as assignments:
                doors.note("dispatcher.assignments", await assignments.__anext__())
            status = ReportedStatus(task_id="task", status=TaskStatus(state=TaskState.ACCEPTED))
            update = UpdateStatusRequest(session_id=id, updates=(status,))
            doors.note("dispatcher.update_status", await dispatcher.update_status("w1", update))
            doors.note("dispatcher.goodbye", await dispatcher.goodbye("w1", GoodbyeRequest(session_id=id)))
        nursery.cancel_scope.cancel()


async def watch_it_all(doors: Doors) -> None:
    """From the first entry on, with what objects were before."""
    end = doors.world.store.state.index
    async with watch(doors.world, WatchRequest(after=0, include_old=True)) as stream:
        version = 0
        while version < end:
            message = await stream.receive()
            version = message.version
            doors.note("watch", message)


def sealing_of(world: Guarded) -> dict[str, tuple[bytes, Place]]:
    """What the secret that was created is stored as."""
    (stored,) = [o for o in world.objects() if isinstance(o, Secret) and o.spec.name == "sealed"]
    assert stored.sealed is not None
    return {
        "ciphertext": (stored.sealed.ciphertext, ("SealedPayload", "ciphertext")),
        "nonce": (stored.sealed.nonce, ("SealedPayload", "nonce")),
    }


def plant_what_is_never_stored(world: Guarded) -> None:
    """A wish for a root goes where it is carried out; a later version might keep it."""
    cluster = world.store.state.cluster()
    assert cluster is not None
    ca = CAConfig(signing_ca_key=value("wanted key"), signing_ca_certificate=value("wanted root"))
    spec = replace(cluster.spec, ca=replace(ca, external_cas=cluster.spec.ca.external_cas))
    world.plant(lambda tx: tx.update(replace(cluster, spec=spec)))


@asynccontextmanager
async def all_asked() -> AsyncIterator[Doors]:
    doors = Doors(Guarded())
    for about in (
        *(ask_about_payloads, ask_about_the_cluster, ask_about_services, ask_the_ca, ask_the_dispatcher),
        *(ask_about_nodes, ask_about_networks),
    ):
        await about(doors)
    plant_what_is_never_stored(doors.world)
    await doors.ask("cluster.get", GetCluster())
    await watch_it_all(doors)
    yield doors


async def test_every_method_tells_what_is_documented_and_no_more(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with all_asked() as doors:
            for record in doors.world.audit.records:
                doors.note("audit", record)
            assert set(doors.told) == set(METHODS) - WHOLE_STATE - set(NOT_HERE)
            extra = sealing_of(doors.world)
            told = {name: seen_in(reply, extra) for name, reply in doors.told.items()}
            assert told == {name: set(DOCUMENTED.get(name, ())) for name in doors.told}
            assert len(doors.world.audit.records) > 20
            logged = "\n".join(f"{record.getMessage()} {record.exc_info}" for record in caplog.records)
            assert seen_in(logged, extra) == set()


def test_what_is_not_asked_here_cannot_tell_anything() -> None:
    for name in NOT_HERE:
        assert not _may_hold_secrets(METHODS[name].response), name
    assert set(NOT_HERE) | WHOLE_STATE <= set(METHODS)
    assert all(METHODS[name].roles == METHODS["raft.join"].roles for name in WHOLE_STATE), "managers alone"


async def test_every_secret_place_of_the_state_is_filled(autojump_clock: MockClock) -> None:
    async with all_asked() as doors:
        filled = {place for object in doors.world.objects() for place, _ in places_in(object)}
        known = {place for _, place in (CANARIES | sealing_of(doors.world)).values()}
    everywhere = {(owner.__name__, name) for owner, name in SECRET | ASSIGNMENTS}
    assert filled >= everywhere
    assert known == everywhere


async def test_dumps_of_objects_and_of_entries(autojump_clock: MockClock) -> None:
    async with all_asked() as doors:
        world, extra = doors.world, sealing_of(doors.world)
        entries = [
            Entry(index, 1, EntryKind.DATA, encode_command(command))
            for index, command in enumerate(world.store.commands, 1)
        ]

        def lines(*, unredacted: bool) -> tuple[str, str]:
            objects = dump_objects(world.store.state, unredacted=unredacted)
            log = dump(log_of(*entries), Range(), unredacted=unredacted)
            return (json.dumps(list(objects)), json.dumps(list(log)))

        for text in lines(unredacted=False):
            assert "<redacted>" in text
            assert seen_in(text, extra) == set()
        # What the swarm was asked for is in the log without the payload, and so it is unredacted.
        objects, log = lines(unredacted=True)
        never_written = {"payload"}
        assert seen_in(objects, extra) == set(CANARIES | extra) - never_written
        assert seen_in(log, extra) == set(CANARIES | extra) - never_written


async def test_no_representation_holds_a_key_or_a_payload(autojump_clock: MockClock) -> None:
    """They end in tracebacks and logs. What drivers and users say, certificates and requests are shown."""
    async with all_asked() as doors:
        extra = sealing_of(doors.world)
        shown = {name for object in doors.world.objects() for name in seen_in(repr(object), extra)}
    assert shown == {
        *("request", "certificate", "variable", "log driver", "publish context", "volume context"),
    }
