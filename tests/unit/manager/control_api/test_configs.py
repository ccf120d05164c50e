"""`config.*`: as secrets, but whoever may ask for one by its id may read it."""

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
    ResourceExhausted,
    Unimplemented,
)
from swarmd.manager.control_api import filters
from swarmd.model import Config, ConfigSpec, Driver, IndexEntry, TaskState, TaskStatus
from swarmd.state.features import KINDS
from swarmd.wire.control import GetObject, RemoveObject
from swarmd.wire.methods import CONFIG_CREATE, CONFIG_GET, CONFIG_LIST, CONFIG_REMOVE, CONFIG_UPDATE
from swarmd.wire.payloads import CreateConfig, ListPayloads, UpdateConfig
from tests.unit.manager.control_api.api_world import task_of
from tests.unit.manager.control_api.payload_world import PAYLOAD, PayloadWorld, template


@pytest.fixture
def world() -> PayloadWorld:
    return PayloadWorld()


async def update(world: PayloadWorld, config: Config, *, version: int = 0, **fields: Any) -> Config:
    request = UpdateConfig(id=config.id, spec=replace(config.spec, **fields), version=version)
    return (await world.ask(CONFIG_UPDATE, request)).config


async def test_it_is_read_whole_and_listed_without_its_payload(world: PayloadWorld) -> None:
    made = await world.add_config(labels={"a": "b"})
    assert (await world.ask(CONFIG_GET, GetObject(id=made.id))).config.spec.data == PAYLOAD
    (listed,) = (await world.ask(CONFIG_LIST, ListPayloads())).configs
    assert listed.config == replace(made, spec=replace(made.spec, data=b""))
    assert world.cluster.payload_keys == (), "configs need no key"


async def test_many_large_configs_are_one_list(world: PayloadWorld) -> None:
    for number in range(6):
        await world.add_config(f"c{number}", b"x" * 1_000_000)
    assert len((await world.ask(CONFIG_LIST, ListPayloads())).configs) == 6


async def test_more_than_one_reply_holds_is_refused_with_a_hint(
    world: PayloadWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        await world.add_config(f"c{number}")
    monkeypatch.setattr(filters, "LIST_BYTES_MAX", 400)
    with pytest.raises(ResourceExhausted, match="5 configs match"):
        await world.ask(CONFIG_LIST, ListPayloads())
    assert len((await world.ask(CONFIG_LIST, ListPayloads(names=("C3",)))).configs) == 1


@pytest.mark.parametrize("size", [1, 1_023_999])
async def test_the_smallest_and_the_largest(world: PayloadWorld, size: int) -> None:
    assert len((await world.add_config(data=b"x" * size)).spec.data) == size


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"data": b""}, "$.data"),
        ({"data": b"x" * 1_024_000}, "$.data"),
        ({"name": "-n"}, "$.name"),
        ({"labels": {" ": "x"}}, "$.labels"),
    ],
)
async def test_what_is_refused_at_creation_says_where(world: PayloadWorld, fields: Any, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        await world.ask(CONFIG_CREATE, CreateConfig(spec=ConfigSpec(**({"name": "n", "data": b"x"} | fields))))
    assert caught.value.field == field


async def test_templates_are_not_built_yet(world: PayloadWorld) -> None:
    spec = ConfigSpec(name="n", data=b"x", templating=Driver(name="golang"))
    with pytest.raises(Unimplemented, match="templates in a config") as caught:
        await world.ask(CONFIG_CREATE, CreateConfig(spec=spec))
    assert caught.value.field == "$.templating"


async def test_a_name_is_taken_once_and_a_retry_is_answered(world: PayloadWorld) -> None:
    made = await world.add_config(key=b"k")
    assert await world.add_config(key=b"k") == made
    with pytest.raises(AlreadyExists):
        await world.add_config("SITE")


async def test_before_every_manager_knows_configs_none_is_made() -> None:
    with pytest.raises(FailedPrecondition, match="not every manager"):
        await PayloadWorld(()).add_config()
    await PayloadWorld((KINDS,)).add_config()


async def test_only_labels_change(world: PayloadWorld) -> None:
    made = await world.add_config()
    changed = await update(world, made, version=made.meta.version, labels={"a": "1"})
    assert (changed.spec.labels, changed.spec.data) == ({"a": "1"}, PAYLOAD)
    assert (await update(world, made, data=b"", labels={"a": "2"})).spec.data == PAYLOAD
    with pytest.raises(Conflict):
        await update(world, made, version=made.meta.version, labels={})
    for fields in (
        {"name": "other"},
        {"data": b"other"},
        {"templating": Driver(name="golang")},
        {"indices": (IndexEntry(key="a"),)},
    ):
        with pytest.raises(Invalid, match="only the labels") as caught:
            await update(world, made, **fields)
        assert caught.value.field == f"$.{next(iter(fields))}"
    with pytest.raises(Invalid) as caught:
        await update(world, made, labels={"a": "\0"})
    assert (caught.value.field or "").startswith("$.labels[")


async def test_labels_that_make_it_too_large_are_refused(world: PayloadWorld) -> None:
    made = await world.add_config(data=b"x" * 1_023_999)
    with pytest.raises(Invalid, match="at most"):
        await update(world, made, data=b"", labels={"a": "x" * 60_000})


async def test_in_use_it_stays(world: PayloadWorld) -> None:
    made = await world.add_config()
    service = world.use(made)
    world.add_tasks([replace(task_of("t1", "s1"), spec=template(made))])
    with pytest.raises(FailedPrecondition, match=r'config "site" is in use by service web'):
        await world.ask(CONFIG_REMOVE, RemoveObject(id=made.id))
    world.stop_using(service)
    with pytest.raises(FailedPrecondition, match="tasks that still run"):
        await world.ask(CONFIG_REMOVE, RemoveObject(id=made.id))
    world.store.write(lambda tx: tx.advance("t1", TaskStatus(state=TaskState.FAILED)))
    assert (await world.ask(CONFIG_REMOVE, RemoveObject(id=made.id))).id == made.id
    for method, request in ((CONFIG_GET, GetObject(id=made.id)), (CONFIG_REMOVE, RemoveObject(id=made.id))):
        with pytest.raises(NotFound, match="config"):
            await world.ask(method, request)
