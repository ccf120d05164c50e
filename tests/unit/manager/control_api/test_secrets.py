"""`secret.*`: sealed before anything is proposed, never told, relabelled and nothing more, kept while in use."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from swarmd.errors import (
    AlreadyExists,
    Conflict,
    FailedPrecondition,
    Invalid,
    NotFound,
    Unimplemented,
)
from swarmd.manager.control_api.secrets import _remove
from swarmd.model import Driver, IndexEntry, Secret, SecretSpec, TaskState, TaskStatus
from swarmd.pki.payload_keys import payload_of
from swarmd.state.command import CommandId, Verdict, encode_command
from swarmd.state.features import KINDS
from swarmd.wire import codec
from swarmd.wire.control import GetObject, RemoveObject
from swarmd.wire.methods import SECRET_CREATE, SECRET_GET, SECRET_LIST, SECRET_REMOVE, SECRET_UPDATE
from swarmd.wire.payloads import CreateSecret, ListPayloads, UpdateSecret
from tests.unit.manager.control_api.api_world import World, task_of
from tests.unit.manager.control_api.payload_world import PAYLOAD, PayloadWorld, template


@pytest.fixture
def world() -> PayloadWorld:
    return PayloadWorld()


async def update(world: PayloadWorld, secret: Secret, *, version: int = 0, key: bytes = b"", **fields: Any) -> Secret:
    spec = replace(secret.spec, **fields)
    request = UpdateSecret(id=secret.id, spec=spec, version=version)
    return (await world.ask(SECRET_UPDATE, request, key=key)).secret


async def names(world: PayloadWorld, **filters: tuple[str, ...]) -> list[str]:
    listed = await world.ask(SECRET_LIST, ListPayloads(**filters))
    return [view.secret.spec.name for view in listed.secrets]


# -- create ------------------------------------------------------------------------------------------------------------
async def test_the_first_secret_makes_the_key_in_the_same_entry(world: PayloadWorld) -> None:
    before = world.store.state.index
    secret = await world.add_secret(labels={"team": "web"})
    assert world.store.state.index == before + 1
    (key,) = world.cluster.payload_keys
    assert (key.id, len(key.key)) == (1, 32)
    stored = world.secret(secret.id)
    assert (stored.spec.data, stored.spec.labels) == (b"", {"team": "web"})
    assert payload_of(world.cluster, stored) == PAYLOAD
    await world.add_secret("second", b"another")
    assert world.cluster.payload_keys == (key,)


async def test_no_entry_holds_a_payload_and_no_reply_any_of_the_sealing(world: PayloadWorld) -> None:
    secret = await world.add_secret()
    await update(world, secret, labels={"a": "b"})
    for command in world.store.commands:
        assert PAYLOAD not in encode_command(command)
    stored = world.secret(secret.id)
    assert stored.sealed is not None
    replies = [
        await world.ask(SECRET_GET, GetObject(id=secret.id)),
        await world.ask(SECRET_LIST, ListPayloads()),
        await world.ask(SECRET_UPDATE, UpdateSecret(id=secret.id, spec=secret.spec)),
        await world.ask(SECRET_CREATE, CreateSecret(spec=SecretSpec(name="other", data=PAYLOAD))),
    ]
    for reply in replies:
        told = codec.encode(reply)
        for hidden in (PAYLOAD, stored.sealed.ciphertext, stored.sealed.nonce, world.cluster.payload_keys[0].key):
            assert hidden not in told
    assert replies[0].secret.sealed.key_id == 1


@pytest.mark.parametrize("size", [1, 511_999])
async def test_the_smallest_and_the_largest(world: PayloadWorld, size: int) -> None:
    secret = await world.add_secret(data=b"x" * size)
    assert payload_of(world.cluster, world.secret(secret.id)) == b"x" * size


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"data": b""}, "$.data"),
        ({"data": b"x" * 512_000}, "$.data"),
        ({"name": ""}, "$.name"),
        ({"name": "n" * 65}, "$.name"),
        ({"name": "a/b"}, "$.name"),
        ({"name": "abc\n"}, "$.name"),
        ({"labels": {"": "x"}}, "$.labels"),
        ({"indices": (IndexEntry(key=""),)}, "$.indices[0].key"),
    ],
)
async def test_what_is_refused_at_creation_says_where(world: PayloadWorld, fields: Any, field: str) -> None:
    before = world.store.state.index
    with pytest.raises(Invalid) as caught:
        await world.ask(SECRET_CREATE, CreateSecret(spec=SecretSpec(**({"name": "n", "data": b"x"} | fields))))
    assert caught.value.field == field
    assert world.store.state.index == before


@pytest.mark.parametrize("field", ["driver", "templating"])
async def test_drivers_and_templates_are_not_built_yet(world: PayloadWorld, field: str) -> None:
    spec = SecretSpec(name="n", data=b"x", **{field: Driver(name="golang")})
    with pytest.raises(Unimplemented, match="not built yet") as caught:
        await world.ask(SECRET_CREATE, CreateSecret(spec=spec))
    assert caught.value.field == f"$.{field}"
    assert caught.value.hint
    assert "\n" not in str(caught.value)


async def test_a_name_is_taken_once_whatever_its_case(world: PayloadWorld) -> None:
    await world.add_secret("Horse")
    with pytest.raises(AlreadyExists, match='"hORSE"'):
        await world.add_secret("hORSE", b"other")
    await world.add_config("Horse")  # another kind


async def test_a_retry_is_answered_and_makes_no_second(world: PayloadWorld) -> None:
    first = await world.add_secret(key=b"k1")
    index = world.store.state.index
    assert await world.add_secret(key=b"k1") == first
    assert world.store.state.index == index
    with pytest.raises(Invalid, match="another request"):
        await world.add_secret(data=b"other", key=b"k1")


async def test_before_every_manager_can_read_it_nothing_is_sealed() -> None:
    world = PayloadWorld((KINDS,))
    with pytest.raises(FailedPrecondition, match="not every manager"):
        await world.add_secret()
    assert world.cluster.payload_keys == ()


async def test_without_the_swarms_state_nothing_is_created() -> None:
    with pytest.raises(FailedPrecondition):
        await World().ask(SECRET_CREATE, CreateSecret(spec=SecretSpec(name="n", data=b"x")))


# -- read --------------------------------------------------------------------------------------------------------------
async def test_what_is_not_there_is_not_found(world: PayloadWorld) -> None:
    for method in (SECRET_GET, SECRET_REMOVE):
        request = GetObject if method is SECRET_GET else RemoveObject
        with pytest.raises(NotFound, match="nobody"):
            await world.ask(method, request(id="nobody"))
        with pytest.raises(Invalid):
            await world.ask(method, request(id=""))
    for id, error in (("nobody", NotFound), ("", Invalid)):
        with pytest.raises(error):
            await world.ask(SECRET_UPDATE, UpdateSecret(id=id, spec=SecretSpec(name="n")))


async def test_filters_are_or_inside_and_between(world: PayloadWorld) -> None:
    b = await world.add_secret("Beta", labels={"team": "web", "tier": ""})
    await world.add_secret("alpha", labels={"team": "db"})
    await world.add_secret("beta.old")
    assert await names(world) == ["alpha", "Beta", "beta.old"]
    assert await names(world, names=("BETA", "alpha")) == ["alpha", "Beta"]
    assert await names(world, name_prefixes=("bet", "x")) == ["Beta", "beta.old"]
    assert await names(world, name_prefixes=("BETA.",)) == ["beta.old"]
    assert await names(world, id_prefixes=(b.id[:10], b.id)) == ["Beta"]
    assert await names(world, id_prefixes=(b.id,), names=("alpha",)) == []
    assert await names(world, labels=("team",)) == ["alpha", "Beta"]
    assert await names(world, labels=("team=web",)) == ["Beta"]
    assert await names(world, labels=("team", "tier=")) == ["Beta"]
    assert await names(world, labels=("team=w",)) == []
    assert await names(world, labels=("nobody's",)) == []
    with pytest.raises(Invalid) as caught:
        await names(world, labels=("=x",))
    assert caught.value.field == "$.labels"


async def test_what_the_swarm_made_for_itself_is_shown_to_nobody_and_touched_by_nobody(world: PayloadWorld) -> None:
    own = Secret(id="own", spec=SecretSpec(name="own"), internal=True)
    world.store.create(own)
    assert await names(world) == []
    for method, request in (
        (SECRET_GET, GetObject(id="own")),
        (SECRET_REMOVE, RemoveObject(id="own")),
        (SECRET_UPDATE, UpdateSecret(id="own", spec=own.spec)),
    ):
        with pytest.raises(NotFound):
            await world.ask(method, request)


# -- update ------------------------------------------------------------------------------------------------------------
async def test_labels_are_replaced_and_the_payload_stays(world: PayloadWorld) -> None:
    secret = await world.add_secret(labels={"a": "1", "b": "2"})
    sealed = world.secret(secret.id).sealed
    changed = await update(world, secret, version=secret.meta.version, labels={"c": "3"})
    assert changed.spec.labels == {"c": "3"}
    assert changed.meta.version > secret.meta.version
    assert world.secret(secret.id).sealed == sealed
    index = world.store.state.index
    await update(world, changed)
    assert world.store.state.index == index, "what changes nothing is not written"


async def test_the_same_payload_again_is_no_change(world: PayloadWorld) -> None:
    secret = await world.add_secret()
    assert (await update(world, secret, data=PAYLOAD, labels={"a": "b"})).spec.labels == {"a": "b"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": "other"}, "$.name"),
        ({"name": "HORSE"}, "$.name"),
        ({"data": b"another payload"}, "$.data"),
        ({"data": PAYLOAD + b"\0"}, "$.data"),
        ({"driver": Driver(name="d")}, "$.driver"),
        ({"templating": Driver(name="golang")}, "$.templating"),
        ({"indices": (IndexEntry(key="a"),)}, "$.indices"),
        ({"labels": {"": "b"}}, "$.labels"),
    ],
)
async def test_nothing_else_can_be_changed(world: PayloadWorld, fields: Any, field: str) -> None:
    secret = await world.add_secret()
    before = world.store.state.digest
    with pytest.raises(Invalid) as caught:
        await update(world, secret, **fields)
    assert caught.value.field == field
    assert caught.value.hint
    assert PAYLOAD.decode() not in f"{caught.value} {caught.value.hint}"
    assert world.store.state.digest == before


async def test_another_version_is_a_conflict(world: PayloadWorld) -> None:
    secret = await world.add_secret()
    await update(world, secret, labels={"a": "1"})
    with pytest.raises(Conflict, match="out of sequence"):
        await update(world, secret, version=secret.meta.version, labels={"a": "2"})
    assert world.secret(secret.id).spec.labels == {"a": "1"}


async def test_a_retried_update_is_done_once(world: PayloadWorld) -> None:
    secret = await world.add_secret()
    for _ in range(2):
        changed = await update(world, secret, version=secret.meta.version, key=b"u", labels={"a": "1"})
    assert changed.spec.labels == {"a": "1"}


# -- remove ------------------------------------------------------------------------------------------------------------
async def test_a_secret_that_a_service_refers_to_stays_and_the_service_is_named(world: PayloadWorld) -> None:
    secret = await world.add_secret()
    services = [world.use(secret, name) for name in ("web", "api")]
    with pytest.raises(FailedPrecondition, match=r'"horse" is in use by services api, web'):
        await world.ask(SECRET_REMOVE, RemoveObject(id=secret.id))
    for service in services:
        world.stop_using(service)
    await world.ask(SECRET_REMOVE, RemoveObject(id=secret.id))
    assert await names(world) == []


async def test_of_many_services_ten_are_named(world: PayloadWorld) -> None:
    secret = await world.add_secret()
    for number in range(13):
        world.use(secret, f"web-{number:02}")
    with pytest.raises(FailedPrecondition, match=r"services web-00, .*web-09 and 3 more$"):
        await world.ask(SECRET_REMOVE, RemoveObject(id=secret.id))


async def test_a_task_that_still_runs_keeps_it_too(world: PayloadWorld) -> None:
    secret = await world.add_secret()
    task = replace(task_of("t1", "s1"), spec=template(secret))
    world.add_tasks([task])
    with pytest.raises(FailedPrecondition, match="tasks that still run, of service name-s1"):
        await world.ask(SECRET_REMOVE, RemoveObject(id=secret.id))
    stopped = TaskStatus(state=TaskState.SHUTDOWN)
    world.store.write(lambda tx: tx.advance("t1", stopped))
    await world.ask(SECRET_REMOVE, RemoveObject(id=secret.id))


async def test_of_a_removal_and_a_service_that_wants_it_meanwhile_one_fails(world: PayloadWorld) -> None:
    secret = await world.add_secret()
    tx = world.store.state.begin(0.0, world.store.rng)
    _remove(tx, secret.id)
    world.use(secret)
    command = tx.command(CommandId(1, b"x" * 16, 999), actor="test")
    assert world.store.apply(command) is Verdict.CONFLICT
    assert world.secret(secret.id)


async def test_a_retried_removal_is_answered(world: PayloadWorld) -> None:
    secret = await world.add_secret()
    for _ in range(2):
        assert (await world.ask(SECRET_REMOVE, RemoveObject(id=secret.id), key=b"r")).id == secret.id
    with pytest.raises(NotFound):
        await world.ask(SECRET_REMOVE, RemoveObject(id=secret.id), key=b"r2")
    await world.add_secret()


async def test_a_manager_that_may_not_write_says_so(world: PayloadWorld) -> None:
    secret = await world.add_secret()
    world.refusals["secret.remove"] = FailedPrecondition("the disk is full")
    with pytest.raises(FailedPrecondition, match="disk is full"):
        await world.ask(SECRET_REMOVE, RemoveObject(id=secret.id))
