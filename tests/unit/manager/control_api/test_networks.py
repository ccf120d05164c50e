"""`network.*`: what they are given, who is in them, how full they are."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from swarmd.errors import AlreadyExists, FailedPrecondition, Invalid, NotFound
from swarmd.manager.control_api.networks import _create
from swarmd.model import (
    ContainerSpec,
    Endpoint,
    EndpointSpec,
    IPAMConfig,
    IPAMOptions,
    Network,
    NetworkAttachment,
    NetworkAttachmentConfig,
    NetworkSpec,
    PortConfig,
    Service,
    ServiceSpec,
    Task,
    TaskSpec,
    TaskState,
    TaskStatus,
    VirtualIP,
)
from swarmd.state.command import CommandId, Verdict, encode_command
from swarmd.state.features import KINDS, ORCHESTRATION, SECURITY
from swarmd.wire.control import GetObject, RemoveObject
from swarmd.wire.methods import NETWORK_CREATE, NETWORK_GET, NETWORK_LIST, NETWORK_REMOVE
from swarmd.wire.networks import CreateNetwork, SubnetUse
from swarmd.wire.payloads import ListPayloads
from tests.unit.manager.control_api.payload_world import PayloadWorld
from tests.unit.manager.local_store import EPOCH


@pytest.fixture
def world() -> PayloadWorld:
    return PayloadWorld((KINDS, SECURITY, ORCHESTRATION))


async def add(world: PayloadWorld, name: str = "net", subnet: str = "", **more: Any) -> Network:
    key = more.pop("key", b"")
    ipam = IPAMOptions(configs=(IPAMConfig(subnet=subnet),)) if subnet else None
    spec = NetworkSpec(name=name, ipam=ipam, **more)
    return (await world.ask(NETWORK_CREATE, CreateNetwork(spec=spec), key=key)).network


def template(network: Network) -> TaskSpec:
    return TaskSpec(container=ContainerSpec(image="a"), networks=(NetworkAttachmentConfig(target=network.id),))


async def test_they_are_made_listed_by_name_shown_and_removed(world: PayloadWorld) -> None:
    b, a = await add(world, "b"), await add(world, "A", labels={"team": "web"})
    assert [view.network for view in (await world.ask(NETWORK_LIST, ListPayloads())).networks] == [a, b]
    assert len((await world.ask(NETWORK_LIST, ListPayloads(labels=("team=web",)))).networks) == 1
    view = await world.ask(NETWORK_GET, GetObject(id=b.id))
    assert view.network == b
    assert view.usage == (SubnetUse(subnet="10.0.0.0/20", used=0, total=4093),)
    await world.ask(NETWORK_REMOVE, RemoveObject(id=b.id))
    with pytest.raises(NotFound):
        await world.ask(NETWORK_GET, GetObject(id=b.id))
    with pytest.raises(NotFound):
        await world.ask(NETWORK_REMOVE, RemoveObject(id=b.id))
    again = await add(world, "c")
    assert again.ipam == b.ipam, "its subnet is free again"


async def test_the_same_request_makes_one(world: PayloadWorld) -> None:
    one = await add(world, key=b"k")
    assert await add(world, key=b"k") == one
    assert len((await world.ask(NETWORK_LIST, ListPayloads())).networks) == 1


async def test_names_subnets_and_the_ingress_network_are_one_each(world: PayloadWorld) -> None:
    await add(world, "net", "192.0.2.0/24", ingress=True)
    for name, subnet, ingress in (("NET", "", False), ("other", "192.0.2.128/25", False), ("other", "", True)):
        with pytest.raises(AlreadyExists):
            await add(world, name, subnet, ingress=ingress)
    with pytest.raises(FailedPrecondition, match="predefined"):
        await add(world, "host")
    with pytest.raises(Invalid) as caught:
        await add(world, "other", attachable=True, ingress=True)
    assert caught.value.field == "$.attachable"


async def test_nothing_is_made_while_a_manager_does_not_know_networks() -> None:
    with pytest.raises(FailedPrecondition, match="not every manager"):
        await add(PayloadWorld((KINDS, SECURITY)))


async def test_two_at_once_never_choose_the_same_subnet(world: PayloadWorld) -> None:
    """Both saw the same networks: the second is refused at apply, and asks anew with what is there by then."""
    state = world.store.state
    first, second = state.begin(EPOCH, world.store.rng), state.begin(EPOCH, world.store.rng)
    _create(first, NetworkSpec(name="one"))
    _create(second, NetworkSpec(name="two"))
    commands = [tx.command(CommandId(1, b"x" * 16, n), actor="a") for n, tx in enumerate((first, second), 1)]
    outcomes = [state.apply(state.index + 1, 1, encode_command(command), command) for command in commands]
    assert outcomes[0].verdict is Verdict.APPLIED
    assert outcomes[1].verdict is not Verdict.APPLIED
    two = await add(world, "two")
    assert two.ipam is not None
    assert two.ipam.configs[0].subnet == "10.0.16.0/20"


async def test_it_stays_while_a_service_or_a_live_task_is_in_it(world: PayloadWorld) -> None:
    network = await add(world)
    service = Service(id="s", spec=ServiceSpec(name="web", task=template(network)))
    task = Task(id="t", service_id="s", service_name="web", slot=1, spec=template(network))
    world.store.create(service)
    world.store.create(task)
    with pytest.raises(FailedPrecondition, match='network "net" is in use by service web'):
        await world.ask(NETWORK_REMOVE, RemoveObject(id=network.id))
    bare = replace(service, spec=replace(service.spec, task=TaskSpec(container=ContainerSpec(image="a"))))
    stored = world.store.state.service("s")
    assert stored is not None
    world.store.write(lambda tx: tx.update(replace(bare, meta=stored.meta)))
    with pytest.raises(FailedPrecondition, match=r"in use by task web\.1\.t"):
        await world.ask(NETWORK_REMOVE, RemoveObject(id=network.id))
    world.store.write(lambda tx: tx.advance("t", TaskStatus(state=TaskState.FAILED)))
    await world.ask(NETWORK_REMOVE, RemoveObject(id=network.id))


async def test_the_ingress_network_stays_while_a_service_publishes(world: PayloadWorld) -> None:
    network = await add(world, "in", ingress=True)
    endpoint = EndpointSpec(ports=(PortConfig(target_port=80, published_port=80),))
    task = TaskSpec(container=ContainerSpec(image="a"))
    world.store.create(Service(id="s", spec=ServiceSpec(name="web", task=task, endpoint=endpoint)))
    with pytest.raises(FailedPrecondition, match="cannot be removed because service web depend on it"):
        await world.ask(NETWORK_REMOVE, RemoveObject(id=network.id))


async def test_usage_is_counted_and_warned_of(world: PayloadWorld) -> None:
    network = await add(world, "net", "192.0.2.0/29")
    vip = VirtualIP(network_id=network.id, addr="192.0.2.2/29")
    spec = ServiceSpec(name="web", task=template(network))
    world.store.create(Service(id="s", spec=spec, endpoint=Endpoint(virtual_ips=(vip,))))
    for number in (3, 4, 5):
        held = NetworkAttachment(network_id=network.id, addresses=(f"192.0.2.{number}/29",))
        world.store.create(Task(id=f"t{number}", spec=template(network), networks=(held,)))
    view = await world.ask(NETWORK_GET, GetObject(id=network.id))
    assert view.usage == (SubnetUse(subnet="192.0.2.0/29", used=4, total=5, is_scarce=True),)
    assert view.warnings == ("4 of 5 addresses of 192.0.2.0/29 are in use",)
    assert view.services == 1
    world.store.write(lambda tx: tx.advance("t3", TaskStatus(state=TaskState.COMPLETE)))
    assert (await world.ask(NETWORK_GET, GetObject(id=network.id))).usage[0].used == 3


async def test_a_subnet_of_ipv6_is_counted_as_far_as_json_goes(world: PayloadWorld) -> None:
    network = await add(world, "net", "2001:db8::/64", ipv6_enabled=True)
    (usage,) = (await world.ask(NETWORK_GET, GetObject(id=network.id))).usage
    assert usage.total == 1 << 53
