from __future__ import annotations

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from swarmd.errors import (
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    NotFound,
    OutcomeUnknown,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from swarmd.model import NodeState, TaskState
from swarmd.state.command import Table
from swarmd.wire.control import CreateService, GetObject, ListServices, RemoveObject, ServiceView, UpdateService
from swarmd.wire.methods import SERVICE_CREATE, SERVICE_GET, SERVICE_LIST, SERVICE_REMOVE, SERVICE_UPDATE
from tests.unit.manager.control_api.api_world import World, service_spec, task_of


@pytest.fixture
def world() -> World:
    return World()


async def created(world: World, name: str = "web", **settings: int) -> ServiceView:
    return await world.ask(SERVICE_CREATE, CreateService(spec=service_spec(name, **settings)))


async def test_created_service_is_answered_as_it_is_stored(world: World) -> None:
    view = await created(world, replicas=3)
    assert view.service.spec == service_spec(replicas=3)
    assert view.service.spec_version == 1
    assert view.service.meta.version == world.store.state.index > 0
    assert (view.running, view.desired) == (0, 3)
    assert world.store.commands[-1].actor == "operator@m1"
    assert await world.ask(SERVICE_GET, GetObject(id=view.service.id)) == view


@pytest.mark.parametrize("name", ["web", "WEB"])
async def test_name_is_unique_whatever_the_case(world: World, name: str) -> None:
    await created(world)
    before = world.store.state.digest
    with pytest.raises(AlreadyExists, match=name) as caught:
        await created(world, name)
    assert caught.value.hint
    assert world.store.state.digest == before


async def test_what_may_not_act_now_changes_nothing_and_what_already_did_is_answered(world: World) -> None:
    await world.ask(SERVICE_CREATE, CreateService(spec=service_spec("done")), key=b"k")
    world.refusals[SERVICE_CREATE.name] = ResourceExhausted("no space")
    before = world.store.state.digest
    with pytest.raises(ResourceExhausted):
        await created(world, "new")
    again = await world.ask(SERVICE_CREATE, CreateService(spec=service_spec("done")), key=b"k")
    assert again.service.spec.name == "done"
    assert world.store.state.digest == before


async def test_invalid_spec_changes_nothing(world: World) -> None:
    with pytest.raises(Invalid, match="negative"):
        await created(world, replicas=-1)
    assert world.store.state.index == 0


async def test_update_keeps_the_previous_spec_and_counts_versions(world: World) -> None:
    service = (await created(world)).service
    wanted = service_spec(replicas=5)
    view = await world.ask(SERVICE_UPDATE, UpdateService(id=service.id, spec=wanted, spec_version=1))
    assert view.service.spec == wanted
    assert view.service.spec_version == 2
    assert view.service.previous_spec == service.spec
    assert view.service.previous_spec_version == 1


async def test_update_of_an_older_version_is_a_conflict(world: World) -> None:
    service = (await created(world)).service
    await world.ask(SERVICE_UPDATE, UpdateService(id=service.id, spec=service_spec(replicas=2)))
    before = world.store.state.digest
    with pytest.raises(Conflict, match="out of sequence: the spec is at version 2, not 1") as caught:
        await world.ask(SERVICE_UPDATE, UpdateService(id=service.id, spec=service_spec(replicas=3), spec_version=1))
    assert caught.value.hint
    assert world.store.state.digest == before


async def test_update_to_the_same_spec_writes_nothing(world: World) -> None:
    view = await created(world)
    index = world.store.state.index
    same = await world.ask(SERVICE_UPDATE, UpdateService(id=view.service.id, spec=service_spec()))
    assert same == view
    assert world.store.state.index == index


async def test_renaming_is_refused(world: World) -> None:
    service = (await created(world)).service
    with pytest.raises(Unimplemented, match="renamed"):
        await world.ask(SERVICE_UPDATE, UpdateService(id=service.id, spec=service_spec("other")))


async def test_removed_service_is_gone_and_its_tasks_are_left_to_the_orchestrator(world: World) -> None:
    service = (await created(world)).service
    world.add_tasks([task_of("t1", service.id)])
    removed = await world.ask(SERVICE_REMOVE, RemoveObject(id=service.id))
    assert removed.id == service.id
    assert removed.version == world.store.state.index
    assert world.store.state.service(service.id) is None
    assert world.store.state.task("t1") is not None


@pytest.mark.parametrize("id", ["", "nothing"])
async def test_unknown_or_missing_ids(world: World, id: str) -> None:
    expected = NotFound if id else Invalid
    for method, request in (
        (SERVICE_GET, GetObject(id=id)),
        (SERVICE_UPDATE, UpdateService(id=id, spec=service_spec())),
        (SERVICE_REMOVE, RemoveObject(id=id)),
    ):
        with pytest.raises(expected):
            await world.ask(method, request)  # type: ignore[arg-type]


async def test_list_is_sorted_by_name_and_filtered(world: World) -> None:
    ids = {name: (await created(world, name)).service.id for name in ("b", "C", "a")}

    async def names(**filters: tuple[str, ...]) -> list[str]:
        reply = await world.ask(SERVICE_LIST, ListServices(**filters))
        return [view.service.spec.name for view in reply.services]

    assert await names() == ["a", "b", "C"]
    assert await names(names=("c", "a")) == ["a", "C"]
    assert await names(id_prefixes=(ids["b"][:8],)) == ["b"]
    assert await names(id_prefixes=(ids["b"],), names=("a",)) == []


async def test_running_counts_only_tasks_on_nodes_that_are_not_down(world: World) -> None:
    service = (await created(world, replicas=3)).service
    world.add_node("up")
    world.add_node("down", state=NodeState.DOWN)
    world.add_tasks(
        [
            task_of("t1", service.id, node="up"),
            task_of("t2", service.id, slot=2, node="down"),
            task_of("t3", service.id, slot=3, node="up", state=TaskState.STARTING),
            task_of("t4", service.id, slot=4, node="gone"),
        ]
    )
    assert (await world.ask(SERVICE_GET, GetObject(id=service.id))).running == 1


async def test_reads_wait_for_a_read_index_unless_stale(world: World) -> None:
    await world.ask(SERVICE_LIST, ListServices())
    assert world.linearized == 1
    await world.ask(SERVICE_LIST, ListServices(), stale=True)
    assert world.linearized == 1


# -- retries under one key -------------------------------------------------------------------------------------------
async def test_retried_create_is_answered_with_the_service_that_the_first_try_made(world: World) -> None:
    request = CreateService(spec=service_spec())
    first = await world.ask(SERVICE_CREATE, request, key=b"k" * 16)
    assert await world.ask(SERVICE_CREATE, request, key=b"k" * 16) == first
    assert len(list(world.store.state.services())) == 1


async def test_create_that_overtakes_its_own_first_try_in_flight_answers_with_the_one_service(
    world: World, autojump_clock: MockClock
) -> None:
    world.store.latency_s = 1.0
    request, replies = CreateService(spec=service_spec()), []

    async def attempt() -> None:
        replies.append(await world.ask(SERVICE_CREATE, request, key=b"k" * 16))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt)
        nursery.start_soon(attempt)
    assert replies[0].service.id == replies[1].service.id
    assert len(list(world.store.state.services())) == 1


async def test_retried_update_and_remove_take_effect_once(world: World) -> None:
    service = (await created(world)).service
    update = UpdateService(id=service.id, spec=service_spec(replicas=2), spec_version=1)
    first = await world.ask(SERVICE_UPDATE, update, key=b"u" * 16)
    assert await world.ask(SERVICE_UPDATE, update, key=b"u" * 16) == first
    assert first.service.spec_version == 2
    remove = RemoveObject(id=service.id)
    removed = await world.ask(SERVICE_REMOVE, remove, key=b"r" * 16)
    assert await world.ask(SERVICE_REMOVE, remove, key=b"r" * 16) == removed


async def test_key_of_another_request_is_refused(world: World) -> None:
    await world.ask(SERVICE_CREATE, CreateService(spec=service_spec()), key=b"k" * 16)
    with pytest.raises(Invalid, match="another request"):
        await world.ask(SERVICE_CREATE, CreateService(spec=service_spec("other")), key=b"k" * 16)


async def test_overlong_key_is_refused(world: World) -> None:
    with pytest.raises(Invalid, match="key"):
        await world.ask(SERVICE_CREATE, CreateService(spec=service_spec()), key=b"k" * 65)


# -- when the change is not confirmed ----------------------------------------------------------------------------------
async def test_unconfirmed_change_is_told_as_unknown_before_the_deadline(
    world: World, autojump_clock: MockClock
) -> None:
    world.store.latency_s = 60.0
    began = trio.current_time()
    with pytest.raises(OutcomeUnknown) as caught:
        await world.ask(SERVICE_CREATE, CreateService(spec=service_spec()), timeout_s=5.0)
    assert caught.value.hint
    assert trio.current_time() - began < 5.0


async def test_refusals_of_the_proposer_reach_the_caller(world: World) -> None:
    world.store.lead(False)
    with pytest.raises(Unavailable):
        await created(world)
    world.store.lead(True)
    world.store.failures = [Gone("too old")]
    with pytest.raises(Gone):
        await created(world)


async def test_service_removed_right_after_an_update_is_answered_as_written(world: World) -> None:
    service = (await created(world)).service
    inner = world.store.update

    async def update_then_lose(fn, **settings):  # type: ignore[no-untyped-def]
        done = await inner(fn, **settings)
        world.store.write(lambda tx: tx.remove(Table.SERVICE, service.id))
        return done

    world.store.update = update_then_lose  # type: ignore[method-assign]
    view = await world.ask(SERVICE_UPDATE, UpdateService(id=service.id, spec=service_spec(replicas=9)))
    assert view.service.spec == service_spec(replicas=9)
    assert view.service.spec_version == 2
    assert replace(view.service, meta=service.meta).previous_spec == service.spec
