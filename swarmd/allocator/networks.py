"""What a new network is given: subnets, gateways, a number on the wire (reference orchestration 8.4, api-and-cli 1.6).

Chosen in the transaction that creates it, which claims that no network came or went meanwhile: two can never choose the
same. There is nothing to release: a network that is gone has nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from msgspec.structs import replace

from swarmd.allocator.addresses import Address, Subnet, first_fit, parse_address
from swarmd.errors import AlreadyExists, FailedPrecondition, Invalid, ResourceExhausted
from swarmd.model import AddressFamily, Driver, IPAMConfig, IPAMOptions, Network, NetworkDefaults, NetworkSpec

OVERLAY: Final = "overlay"
NODE_LOCAL_DRIVERS: Final = ("bridge", "host", "ipvlan", "macvlan")
"""Networks of these are each node's own: the swarm gives them no addresses."""
IPAM_DRIVER: Final = "default"
PREDEFINED: Final = ("bridge", "host", "none")
"""Names that every node has a network of already."""
INGRESS_NAME: Final = "ingress"
INTERNAL_LABEL: Final = "com.docker.swarm.internal"
VXLAN_OPTION: Final = "com.docker.network.driver.overlay.vxlanid_list"
VXLAN_FIRST: Final = 4_096
"""Below are the numbers that VLANs use."""
VXLAN_LAST: Final = (1 << 24) - 1


def is_ingress(network: Network) -> bool:
    """Whether published ports are reached through it: by its flag, or by its name and label (SwarmKit's older way)."""
    spec = network.spec
    return spec.ingress or (spec.name == INGRESS_NAME and INTERNAL_LABEL in spec.labels)


def is_node_local(network: Network) -> bool:
    """Whether nodes make it for themselves, each with addresses of its own."""
    return network.driver_state is not None and network.driver_state.name in NODE_LOCAL_DRIVERS


def allocated(id: str, spec: NetworkSpec, others: Sequence[Network], defaults: NetworkDefaults) -> Network:
    """The network that `spec` asks for, with all that it needs, beside `others`.

    Raises `Invalid` for drivers that there are none of and for subnets that nobody can give, `AlreadyExists` for a
    subnet that overlaps another network's (naming it) and for a second ingress network, `FailedPrecondition` for a
    predefined name, `ResourceExhausted` if the pools have no subnet left.
    """
    if spec.name.lower() in PREDEFINED:
        raise FailedPrecondition(
            f'"{spec.name}" is a predefined network: every node has one', field="$.name", hint="choose another name"
        )
    driver = spec.driver_config.name if spec.driver_config is not None and spec.driver_config.name else OVERLAY
    _check_drivers(spec, driver, others)
    options = spec.driver_config.options if spec.driver_config is not None else {}
    network = Network(id=id, spec=spec)
    if driver in NODE_LOCAL_DRIVERS:
        return replace(network, driver_state=Driver(name=driver), ipam=IPAMOptions(driver=Driver(name=IPAM_DRIVER)))
    number = str(_free_number(others))
    return replace(
        network,
        driver_state=Driver(name=driver, options={**options, VXLAN_OPTION: number}),
        ipam=IPAMOptions(driver=Driver(name=IPAM_DRIVER), configs=_subnets(spec, others, defaults)),
    )


def _check_drivers(spec: NetworkSpec, driver: str, others: Sequence[Network]) -> None:
    if driver != OVERLAY and (spec.ingress or driver not in NODE_LOCAL_DRIVERS):
        known = OVERLAY if spec.ingress else f"one of {', '.join((OVERLAY, *NODE_LOCAL_DRIVERS))}"
        raise Invalid(
            f'there is no driver "{driver}" of {"ingress " if spec.ingress else ""}networks',
            field="$.driver_config.name",
            hint=known,
        )
    if spec.config_from:
        raise Invalid("networks are not made from a node's settings", field="$.config_from", hint="leave it out")
    ipam = spec.ipam
    if ipam is not None and ipam.driver is not None and ipam.driver.name not in ("", IPAM_DRIVER):
        raise Invalid(
            f'there is no IPAM driver "{ipam.driver.name}"', field="$.ipam.driver.name", hint=f"only {IPAM_DRIVER}"
        )
    if driver in NODE_LOCAL_DRIVERS and ipam is not None and ipam.configs:
        raise Invalid(
            f'a network of driver "{driver}" has its addresses from each node', field="$.ipam.configs", hint="leave out"
        )
    if spec.ingress:
        for other in others:
            if is_ingress(other):
                raise AlreadyExists(
                    f'there is an ingress network already: "{other.spec.name}" ({other.id})', field="$.ingress"
                )


# -- numbers -----------------------------------------------------------------------------------------------------------
def vxlan_numbers(network: Network) -> tuple[int, ...]:
    """The numbers on the wire that a network has."""
    text = network.driver_state.options.get(VXLAN_OPTION, "") if network.driver_state is not None else ""
    return tuple(int(part) for part in text.split(",") if part.isascii() and part.isdigit())


def _free_number(others: Iterable[Network]) -> int:
    taken = {number for network in others for number in vxlan_numbers(network)}
    for number in range(VXLAN_FIRST, VXLAN_LAST + 1):
        if number not in taken:
            return number
    raise ResourceExhausted("no VXLAN number is left")


# -- subnets -----------------------------------------------------------------------------------------------------------
def subnets_of(network: Network) -> Iterator[Subnet]:
    """The subnets that a network has been given."""
    for config in network.ipam.configs if network.ipam is not None else ():
        yield ip_network(config.subnet, strict=False)


def _subnets(spec: NetworkSpec, others: Sequence[Network], defaults: NetworkDefaults) -> tuple[IPAMConfig, ...]:
    taken = [(subnet, network.spec.name) for network in others for subnet in subnets_of(network)]
    configs: list[IPAMConfig] = []
    for position, config in enumerate(spec.ipam.configs if spec.ipam is not None else ()):
        subnet = ip_network(config.subnet, strict=False)
        for other, name in taken:
            if _overlap(subnet, other):
                raise AlreadyExists(
                    f'subnet {subnet} overlaps {other} of network "{name}"', field=f"$.ipam.configs[{position}].subnet"
                )
        taken.append((subnet, spec.name))
        configs.append(_with_gateway(config, subnet))
    versions = {ip_network(config.subnet, strict=False).version for config in configs}
    if 6 in versions and not spec.ipv6_enabled:
        raise Invalid("a subnet of IPv6 needs a network with IPv6", field="$.ipv6_enabled", hint="--ipv6")
    wanted = ([] if configs else [4]) + ([6] if spec.ipv6_enabled and 6 not in versions else [])
    for version in wanted:
        found = free_subnet(defaults, [other for other, _ in taken], version)
        taken.append((found, spec.name))
        configs.append(_with_gateway(IPAMConfig(subnet=str(found)), found))
    return tuple(configs)


def free_subnet(defaults: NetworkDefaults, taken: Iterable[Subnet], version: int = 4) -> Subnet:
    """The first subnet of the pools that overlaps none of `taken`: 2^`subnet_size` is how many fit into all of IPv4.

    Raises `ResourceExhausted`; `Invalid` if no pool is of this version.
    """
    pools = [ip_network(pool, strict=False) for pool in defaults.default_address_pools]
    mine = [pool for pool in pools if pool.version == version]
    if not mine:
        raise Invalid(
            f"no default address pool is of IPv{version}",
            field="$.ipam.configs",
            hint="give a subnet, like --subnet 2001:db8::/64" if version == 6 else "give a subnet",
        )
    spans = sorted((int(s.network_address), int(s.broadcast_address)) for s in taken if s.version == version)
    for pool in mine:
        found = _gap(pool, _prefix(pool, defaults.subnet_size), spans)
        if found is not None:
            return found
    raise ResourceExhausted(
        f"no subnet is left in the default address pools ({', '.join(defaults.default_address_pools)})",
        field="$.ipam.configs",
        hint="give a subnet of another range, or remove a network",
    )


def _prefix(pool: Subnet, subnet_size: int) -> int:
    """Subnets of IPv6 are /64 (RFC 4291 2.5.1), whatever the size set for IPv4."""
    return max(pool.prefixlen, subnet_size if pool.version == 4 else 64)


def _gap(pool: Subnet, prefix: int, spans: Sequence[tuple[int, int]]) -> Subnet | None:
    """The first place in `pool` beside all of `spans`, which are sorted by where they begin."""
    size = 1 << (pool.max_prefixlen - prefix)
    at, end = int(pool.network_address), int(pool.broadcast_address)
    for low, high in spans:
        if high < at:
            continue
        if low >= at + size:
            break
        at += (high - at) // size * size + size
    if at + size - 1 > end:
        return None
    return IPv4Network((at, prefix)) if pool.version == 4 else IPv6Network((at, prefix))


def _overlap(one: Subnet, other: Subnet) -> bool:
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.overlaps(other)
    return isinstance(other, IPv6Network) and one.overlaps(other)


def _with_gateway(config: IPAMConfig, subnet: Subnet) -> IPAMConfig:
    """The gateway that was named, else the first address that nothing else has been reserved for."""
    reserved = {parse_address(text) for text in config.reserved.values()}

    def is_wanted(address: Address) -> bool:
        return address not in reserved

    return replace(
        config,
        family=AddressFamily.IPV4 if subnet.version == 4 else AddressFamily.IPV6,
        subnet=str(subnet),
        gateway=config.gateway or first_fit(subnet, is_wanted),
    )
