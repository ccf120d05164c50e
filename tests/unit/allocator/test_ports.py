"""Ports: what a service gets, keeps, and is refused (reference orchestration 8.5, scenario 76)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from swarmd.allocator import with_ports
from swarmd.errors import AlreadyExists, ResourceExhausted
from swarmd.model import (
    ContainerSpec,
    EndpointMode,
    EndpointSpec,
    PortConfig,
    PortProtocol,
    PublishMode,
    Service,
    ServiceSpec,
    TaskSpec,
    VirtualIP,
)
from swarmd.orchestrator.revision import created, updated
from swarmd.state.command import CommandId, Table, Verdict, encode_command
from swarmd.state.transaction import Transaction
from tests.unit.orchestrator.world import World

SPEC = ServiceSpec(name="x", task=TaskSpec(container=ContainerSpec(image="a")))


@pytest.fixture
def world() -> World:
    world = World()
    world.track()
    return world


def port(target: int, published: int = 0, **more: Any) -> PortConfig:
    return PortConfig(target_port=target, published_port=published, **more)


def host(target: int, published: int = 0, **more: Any) -> PortConfig:
    return port(target, published, publish_mode=PublishMode.HOST, **more)


def create(world: World, name: str, *ports: PortConfig) -> tuple[int, ...]:
    spec = replace(SPEC, name=name, endpoint=EndpointSpec(ports=ports))
    world.update(lambda tx: tx.create(with_ports(tx, created(name, spec, tx.now))))
    return numbers(world, name)


def change(world: World, name: str, *ports: PortConfig) -> tuple[int, ...]:
    service = world.service(name)
    spec = replace(service.spec, endpoint=EndpointSpec(ports=ports))
    world.update(lambda tx: tx.update(with_ports(tx, updated(service, spec, tx.now))))
    return numbers(world, name)


def numbers(world: World, name: str) -> tuple[int, ...]:
    endpoint = world.service(name).endpoint
    return tuple(one.published_port for one in endpoint.ports) if endpoint is not None else ()


def test_without_ports_there_is_no_endpoint_and_one_goes_with_its_ports(world: World) -> None:
    assert create(world, "a") == ()
    assert world.service("a").endpoint is None
    change(world, "a", port(80))
    assert change(world, "a") == ()
    assert world.service("a").endpoint is None


def test_a_number_that_is_asked_for_is_given_and_others_are_chosen(world: World) -> None:
    assert create(world, "a", port(80, 8080), port(81), port(82), host(83), host(84, 84)) == (8080, 30000, 30001, 0, 84)
    assert create(world, "b", port(80), port(80, protocol=PortProtocol.UDP)) == (30002, 30000)


def test_numbers_are_kept_when_others_come_and_go(world: World) -> None:
    assert create(world, "a", port(80), port(81)) == (30000, 30001)
    assert change(world, "a", port(90), port(80), port(81)) == (30002, 30000, 30001)
    assert change(world, "a", port(81)) == (30001,)
    assert create(world, "b", port(1), port(2)) == (30000, 30002)


def test_two_ports_alike_keep_a_number_each(world: World) -> None:
    assert create(world, "a", port(80), port(80)) == (30000, 30001)
    assert change(world, "a", port(80), port(80), port(80)) == (30000, 30001, 30002)


def test_what_was_chosen_may_be_asked_for_by_number(world: World) -> None:
    assert create(world, "a", port(80)) == (30000,)
    assert change(world, "a", port(80), port(81, 30000)) == (30001, 30000)


@pytest.mark.parametrize(
    ("mine", "theirs", "how"),
    [
        (port(80, 8080), port(1, 8080), "an ingress"),
        (port(80, 8080), host(1, 8080), "a host-published"),
        (host(80, 8080), port(1, 8080), "an ingress"),
        (port(80, 30000), port(1), "an ingress"),
    ],
)
def test_a_port_that_another_service_has_is_refused_naming_it(
    world: World, mine: PortConfig, theirs: PortConfig, how: str
) -> None:
    create(world, "theirs", theirs)
    number = mine.published_port
    with pytest.raises(
        AlreadyExists, match=rf"port '{number}' is already in use by service 'theirs' \(theirs\) as {how}"
    ):
        create(world, "mine", mine)
    assert world.state.service("mine") is None


def test_a_host_port_may_be_two_services(world: World) -> None:
    assert create(world, "a", host(80, 8080)) == create(world, "b", host(80, 8080)) == (8080,)


def test_protocols_do_not_meet(world: World) -> None:
    create(world, "a", port(53, 53))
    assert create(world, "b", port(53, 53, protocol=PortProtocol.UDP)) == (53,)


def test_a_removed_service_gives_its_ports_back(world: World) -> None:
    create(world, "a", port(80, 8080), port(81))
    world.remove_service("a")
    assert create(world, "b", port(80, 8080), port(81)) == (8080, 30000)


def test_when_all_are_taken_it_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarmd.allocator.ports.DYNAMIC_LAST", 30_001)
    create(world, "a", port(80), port(81))
    with pytest.raises(ResourceExhausted, match="no tcp port is left between 30000 and 30001"):
        create(world, "b", port(80))


def test_a_name_that_stands_for_the_tasks_needs_no_port_but_is_remembered(world: World) -> None:
    spec = replace(SPEC, name="a", endpoint=EndpointSpec(mode=EndpointMode.DNSRR))
    world.update(lambda tx: tx.create(with_ports(tx, created("a", spec, tx.now))))
    endpoint = world.service("a").endpoint
    assert endpoint is not None
    assert endpoint.spec.mode is EndpointMode.DNSRR


def test_of_two_transactions_that_want_one_port_the_second_is_refused(world: World) -> None:
    spec = replace(SPEC, endpoint=EndpointSpec(ports=(port(80),)))
    transactions = []
    for name in ("a", "b"):
        tx = world.state.begin(world.now, world.rng)
        tx.create(with_ports(tx, created(name, replace(spec, name=name), tx.now)))
        transactions.append(tx.command(CommandId(1, b"boot", len(transactions)), actor="test"))
    verdicts = [
        world.state.apply(world.state.index + 1, 1, encode_command(command), command).verdict
        for command in transactions
    ]
    assert verdicts == [Verdict.APPLIED, Verdict.CONFLICT]


PORTS = st.lists(
    st.builds(
        PortConfig,
        target_port=st.integers(1, 3),
        published_port=st.sampled_from((0, 0, 0, 80, 30_000, 30_001)),
        publish_mode=st.sampled_from(PublishMode),
        protocol=st.sampled_from((PortProtocol.TCP, PortProtocol.UDP)),
    ),
    max_size=4,
    unique_by=lambda one: (one.protocol, one.published_port or one.target_port * 100_000),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(("put", "put", "remove")), PORTS), max_size=12))
def test_no_port_ever_has_two_holders_and_what_was_chosen_stays(steps: list[tuple[str, str, list[PortConfig]]]) -> None:
    world = World()
    world.track()
    for name, what, ports in steps:
        service = world.state.service(name)
        try:
            if what == "remove":
                if service is not None:
                    world.update(lambda tx, name=name: tx.remove(Table.SERVICE, name))
                continue
            if service is None:
                create(world, name, *ports)
            else:
                change(world, name, *ports)
                assert_kept(service, world.service(name))
        except AlreadyExists:
            assert world.state.service(name) == service
        assert_one_holder_each(world)


def assert_one_holder_each(world: World) -> None:
    held: dict[tuple[int, int], str] = {}
    for service in world.state.services():
        for one in service.endpoint.ports if service.endpoint is not None else ():
            if one.publish_mode is PublishMode.INGRESS:
                assert one.published_port
                assert held.setdefault((one.protocol, one.published_port), service.id) == service.id
    for service in world.state.services():
        for one in service.endpoint.ports if service.endpoint is not None else ():
            if one.publish_mode is PublishMode.HOST and one.published_port:
                assert held.get((one.protocol, one.published_port), service.id) == service.id


def assert_kept(old: Service, new: Service) -> None:
    if old.endpoint is None or new.endpoint is None:
        return
    explicit = {(one.protocol, one.published_port) for one in new.spec.endpoint.ports if one.published_port}
    for asked, got in zip(old.endpoint.spec.ports, old.endpoint.ports, strict=True):
        if (
            asked.published_port
            or asked.publish_mode is PublishMode.HOST
            or (got.protocol, got.published_port) in explicit
        ):
            continue
        if asked in new.spec.endpoint.ports:
            assert got in new.endpoint.ports


def test_addresses_of_networks_stay_whatever_becomes_of_the_ports(world: World) -> None:
    create(world, "web", port(80))
    vips = (VirtualIP(network_id="n", addr="192.0.2.2/24"),)

    def attach(tx: Transaction) -> None:
        service = tx.service("web")
        assert service is not None
        assert service.endpoint is not None
        tx.update(replace(service, endpoint=replace(service.endpoint, virtual_ips=vips)))

    world.update(attach)
    for ports in ((port(80), port(81)), (), (port(82, 82),)):
        change(world, "web", *ports)
        endpoint = world.service("web").endpoint
        assert endpoint is not None
        assert endpoint.virtual_ips == vips
