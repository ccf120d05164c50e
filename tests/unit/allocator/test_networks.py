"""What a new network is given (reference orchestration 8.4, api-and-cli 1.6)."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.allocator.networks import VXLAN_OPTION, allocated, free_subnet, is_ingress, is_node_local, subnets_of
from swarmd.errors import AlreadyExists, FailedPrecondition, Invalid, ResourceExhausted
from swarmd.model import Driver, IPAMConfig, IPAMOptions, Network, NetworkDefaults, NetworkSpec

DEFAULTS = NetworkDefaults()


def spec(name: str = "n", *subnets: str, **more: Any) -> NetworkSpec:
    configs = tuple(IPAMConfig(subnet=subnet) for subnet in subnets)
    return NetworkSpec(name=name, ipam=IPAMOptions(configs=configs) if configs else None, **more)


def made(*specs: NetworkSpec, defaults: NetworkDefaults = DEFAULTS) -> list[Network]:
    networks: list[Network] = []
    for position, wanted in enumerate(specs):
        networks.append(allocated(f"id{position}", wanted, networks, defaults))
    return networks


def test_subnets_come_from_the_pool_one_after_the_other_with_a_gateway_and_a_number() -> None:
    networks = made(spec("a"), spec("b"))
    assert [[config.subnet for config in network.ipam.configs] for network in networks if network.ipam] == [
        ["10.0.0.0/20"],
        ["10.0.16.0/20"],
    ]
    first = networks[0]
    assert first.ipam is not None
    assert first.driver_state == Driver(name="overlay", options={VXLAN_OPTION: "4096"})
    assert first.ipam.configs[0].gateway == "10.0.0.1"
    assert networks[1].driver_state == Driver(name="overlay", options={VXLAN_OPTION: "4097"})


def test_what_a_user_took_is_gone_round_and_what_was_freed_is_used_again() -> None:
    networks = made(spec("a", "10.0.8.0/24"), spec("b"), spec("c"))
    assert [str(next(subnets_of(network))) for network in networks[1:]] == ["10.0.16.0/20", "10.0.32.0/20"]
    again = allocated("id9", spec("d"), [networks[0], networks[2]], DEFAULTS)
    assert str(next(subnets_of(again))) == "10.0.16.0/20"
    assert again.driver_state is not None
    assert again.driver_state.options[VXLAN_OPTION] == "4097"


def test_a_subnet_that_overlaps_names_the_other_network() -> None:
    (a,) = made(spec("a"))
    with pytest.raises(AlreadyExists, match=r'subnet 10\.0\.4\.0/24 overlaps 10\.0\.0\.0/20 of network "a"') as caught:
        allocated("x", spec("b", "10.0.4.0/24"), [a], DEFAULTS)
    assert caught.value.field == "$.ipam.configs[0].subnet"
    with pytest.raises(AlreadyExists, match="of network"):
        allocated("x", spec("b", "192.0.2.0/24", "192.0.2.0/25"), [a], DEFAULTS)


def test_named_gateways_and_reservations_stay() -> None:
    config = IPAMConfig(subnet="192.0.2.7/24", reserved={"router": "192.0.2.1"})
    network = allocated("x", NetworkSpec(name="n", ipam=IPAMOptions(configs=(config,))), [], DEFAULTS)
    assert network.ipam is not None
    assert (network.ipam.configs[0].subnet, network.ipam.configs[0].gateway) == ("192.0.2.0/24", "192.0.2.2")
    config = IPAMConfig(subnet="192.0.2.0/24", gateway="192.0.2.254")
    network = allocated("x", NetworkSpec(name="n", ipam=IPAMOptions(configs=(config,))), [], DEFAULTS)
    assert network.ipam is not None
    assert network.ipam.configs[0].gateway == "192.0.2.254"


def test_an_exhausted_pool_says_so() -> None:
    small = NetworkDefaults(default_address_pools=("192.0.2.0/24",), subnet_size=25)
    networks = made(spec("a"), spec("b"), defaults=small)
    with pytest.raises(ResourceExhausted, match=r"no subnet is left in the default address pools \(192.0.2.0/24\)"):
        allocated("x", spec("c"), networks, small)
    larger = NetworkDefaults(default_address_pools=("192.0.2.0/24", "198.51.100.0/24"), subnet_size=25)
    assert str(next(subnets_of(allocated("x", spec("c"), networks, larger)))) == "198.51.100.0/25"


def test_ipv6_needs_a_subnet_or_a_pool() -> None:
    with pytest.raises(Invalid, match="no default address pool is of IPv6"):
        allocated("x", spec(ipv6_enabled=True), [], DEFAULTS)
    with pytest.raises(Invalid, match="needs a network with IPv6"):
        allocated("x", spec("n", "2001:db8::/64"), [], DEFAULTS)
    pools = NetworkDefaults(default_address_pools=("10.0.0.0/8", "fd00::/32"))
    network = allocated("x", spec(ipv6_enabled=True), [], pools)
    assert [str(subnet) for subnet in subnets_of(network)] == ["10.0.0.0/20", "fd00::/64"]


@pytest.mark.parametrize("name", ["bridge", "host", "none", "Host"])
def test_predefined_names_are_refused(name: str) -> None:
    with pytest.raises(FailedPrecondition, match="predefined"):
        allocated("x", spec(name), [], DEFAULTS)


def test_node_local_drivers_get_a_name_and_no_addresses() -> None:
    network = allocated("x", spec(driver_config=Driver(name="macvlan")), [], DEFAULTS)
    assert is_node_local(network)
    assert network.driver_state == Driver(name="macvlan")
    assert list(subnets_of(network)) == []


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (spec(driver_config=Driver(name="weave")), "$.driver_config.name"),
        (spec(driver_config=Driver(name="bridge"), ingress=True), "$.driver_config.name"),
        (NetworkSpec(name="n", ipam=IPAMOptions(driver=Driver(name="dhcp"))), "$.ipam.driver.name"),
        (spec("n", "192.0.2.0/24", driver_config=Driver(name="bridge")), "$.ipam.configs"),
        (spec(config_from="local"), "$.config_from"),
    ],
)
def test_what_nobody_makes_is_refused_with_its_field(wanted: NetworkSpec, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        allocated("x", wanted, [], DEFAULTS)
    assert caught.value.field == field


def test_there_is_one_ingress_network() -> None:
    (first,) = made(spec("in", ingress=True))
    assert is_ingress(first)
    with pytest.raises(AlreadyExists, match=r'an ingress network already: "in" \(id0\)'):
        allocated("x", spec("other", ingress=True), [first], DEFAULTS)
    old_way = allocated("x", spec("ingress", labels={"com.docker.swarm.internal": "true"}), [], DEFAULTS)
    assert is_ingress(old_way)


@settings(max_examples=60)
@given(st.lists(st.one_of(st.none(), st.tuples(st.integers(0, 255), st.integers(24, 29))), max_size=12))
def test_no_two_networks_ever_overlap(wishes: list[tuple[int, int] | None]) -> None:
    defaults = NetworkDefaults(default_address_pools=("10.0.0.0/22",), subnet_size=26)
    networks: list[Network] = []
    for position, wish in enumerate(wishes):
        subnets = () if wish is None else (f"10.0.{wish[0] % 4}.{wish[0]}/{wish[1]}",)
        try:
            networks.append(allocated(f"id{position}", spec(f"n{position}", *subnets), networks, defaults))
        except (AlreadyExists, ResourceExhausted):
            continue
    pairs = combinations([subnet for network in networks for subnet in subnets_of(network)], 2)
    assert not any(one.overlaps(other) for one, other in pairs)  # type: ignore[arg-type]
    states = [network.driver_state for network in networks]
    assert len({state.options[VXLAN_OPTION] for state in states if state}) == len(networks)


def test_a_pool_is_used_to_its_last_subnet() -> None:
    defaults = NetworkDefaults(default_address_pools=("10.0.0.0/24",), subnet_size=28)
    taken: list[Any] = []
    for _ in range(16):
        taken.append(free_subnet(defaults, taken))
    assert len(set(taken)) == 16
    with pytest.raises(ResourceExhausted):
        free_subnet(defaults, taken)
