"""What services say that they depend on: it exists, and nobody waits for itself."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from swarmd.errors import FailedPrecondition, Invalid, NotFound
from swarmd.manager.control_api.dependencies import check_dependencies
from swarmd.model import Service, ServiceDependency, ServiceSpec
from swarmd.state.features import ORCHESTRATION
from tests.unit.manager.control_api.api_world import World, service_spec


@pytest.fixture
def world() -> World:
    world = World()
    world.add_cluster()
    world.raise_feature_level(ORCHESTRATION)
    return world


def needing(name: str, *others: str) -> ServiceSpec:
    return replace(service_spec(name), depends_on=tuple(ServiceDependency(service=other) for other in others))


def add(world: World, spec: ServiceSpec) -> None:
    world.store.create(Service(id=f"id-{spec.name}", spec=spec, spec_version=1))


def check(world: World, spec: ServiceSpec) -> None:
    check_dependencies(world.store.state.begin(0.0, world.store.rng), spec)


def test_what_exists_may_be_depended_on_whatever_the_case(world: World) -> None:
    add(world, needing("db"))
    check(world, needing("web", "DB"))


def test_what_does_not_exist_may_not(world: World) -> None:
    add(world, needing("db"))
    with pytest.raises(NotFound, match='"cache"') as caught:
        check(world, needing("web", "db", "cache"))
    assert caught.value.field == "$.depends_on[1].service"


def test_nobody_depends_on_itself(world: World) -> None:
    add(world, needing("web"))
    with pytest.raises(Invalid, match="itself"):
        check(world, needing("web", "Web"))


def test_a_circle_is_refused_and_named(world: World) -> None:
    add(world, needing("a"))
    add(world, needing("b", "a"))
    add(world, needing("c", "b"))
    with pytest.raises(FailedPrecondition, match="a -> c -> b -> a"):
        check(world, needing("a", "c"))
    check(world, needing("d", "c", "b"))
