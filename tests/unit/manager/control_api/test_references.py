"""What a service refers to must be there and be what it says; then it is told that tasks are not given it yet."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from swarmd.errors import Invalid
from swarmd.manager.control_api.references import check_given_to_tasks, require_referenced
from swarmd.manager.control_api.services import _create
from swarmd.model import Config, Secret, SecretSpec, ServiceSpec, TaskSpec
from swarmd.state.command import CommandId, Table, Verdict
from swarmd.wire.control import CreateService, UpdateService
from swarmd.wire.methods import SERVICE_CREATE, SERVICE_UPDATE
from tests.unit.manager.control_api.api_world import service_spec
from tests.unit.manager.control_api.payload_world import PayloadWorld, template


@pytest.fixture
def world() -> PayloadWorld:
    return PayloadWorld()


def spec_with(task: TaskSpec) -> ServiceSpec:
    return replace(service_spec(), task=task)


def renamed(payload: Secret | Config, name: str) -> Secret | Config:
    return replace(payload, spec=replace(payload.spec, name=name))


async def refusal(world: PayloadWorld, task: TaskSpec) -> Invalid:
    before = world.store.state.index
    with pytest.raises(Invalid) as caught:
        await world.ask(SERVICE_CREATE, CreateService(spec=spec_with(task)))
    assert world.store.state.index == before
    return caught.value


async def test_all_that_are_missing_are_told_at_once(world: PayloadWorld) -> None:
    there = await world.add_secret("there")
    gone = [replace(there, id=f"gone{number}") for number in range(2)]
    named = [renamed(secret, f"gone-{number}") for number, secret in enumerate(gone)]
    error = await refusal(world, template(there, *named))
    assert error.field == "$.task.container.secrets"
    assert "gone-0" in error.message
    assert "gone-1" in error.message
    assert '"there"' not in error.message
    assert error.hint == "swarmctl secret ls"


async def test_id_and_name_must_agree(world: PayloadWorld) -> None:
    for made, noun in ((await world.add_secret("real"), "secret"), (await world.add_config("real"), "config")):
        for other in ("other", "REAL"):
            error = await refusal(world, template(renamed(made, other)))
            assert error.field == f"$.task.container.{noun}s"
            assert other in error.message
            assert "is named" in error.message


async def test_what_the_swarm_made_for_itself_is_not_there(world: PayloadWorld) -> None:
    own = Secret(id="own", spec=SecretSpec(name="own"), internal=True)
    world.store.create(own)
    assert "own" in (await refusal(world, template(own))).message


async def test_with_good_references_one_line_says_that_tasks_are_not_given_them_yet(world: PayloadWorld) -> None:
    for payload, noun in ((await world.add_secret(), "secrets"), (await world.add_config(), "configs")):
        error = await refusal(world, template(payload))
        assert (error.message, error.field) == (f"{noun} cannot be given to tasks yet", f"$.task.container.{noun}")
        with pytest.raises(Invalid, match="cannot be given"):
            check_given_to_tasks(spec_with(template(payload)))


async def test_an_update_is_looked_at_as_a_creation_is(world: PayloadWorld) -> None:
    service = (await world.ask(SERVICE_CREATE, CreateService(spec=service_spec()))).service
    secret = await world.add_secret()
    for task, match in (
        (template(renamed(secret, "other")), "not there"),
        (template(secret), "cannot be given"),
        (template(secret, file="../x"), "not the name of a file"),
    ):
        with pytest.raises(Invalid, match=match):
            await world.ask(SERVICE_UPDATE, UpdateService(id=service.id, spec=spec_with(task), spec_version=-1))
    assert world.store.state.service(service.id) == service


async def test_what_is_removed_meanwhile_refuses_the_service(world: PayloadWorld) -> None:
    secret = await world.add_secret()
    tx = world.store.state.begin(0.0, world.store.rng)
    require_referenced(tx, spec_with(template(secret)))
    _create(tx, CreateService(spec=service_spec()))
    world.store.write(lambda tx: tx.remove(Table.SECRET, secret.id))
    command = tx.command(CommandId(1, b"x" * 16, 999), actor="test")
    assert world.store.apply(command) is Verdict.CONFLICT
