"""The validity of where subnets of new networks come from (reference api-and-cli 1.7)."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from swarmd.errors import Invalid
from swarmd.model.quote import quote
from swarmd.model.specs import NetworkDefaults

POOLS_MAX: Final = 64
SUBNET_SIZE_MAX: Final = 29
"""Bits. A subnet of /30 has no address to spare beside a gateway and a service's own."""
VXLAN_PORT_MIN: Final = 1_024
PORT_MAX: Final = 65_535


def check_network_defaults(networks: NetworkDefaults, path: str) -> None:
    """Raise `Invalid` for pools that are none or overlap, sizes beyond them, and ports that nobody may bind."""
    pools = networks.default_address_pools
    if not 1 <= len(pools) <= POOLS_MAX:
        raise Invalid(f"there are 1 to {POOLS_MAX} address pools", field=f"{path}.default_address_pools")
    seen: list[IPv4Network | IPv6Network] = []
    for position, text in enumerate(pools):
        field = f"{path}.default_address_pools[{position}]"
        try:
            pool = ip_network(text)
        except ValueError:
            raise Invalid(f"{quote(text)} is not a pool", field=field, hint="like 10.0.0.0/8") from None
        if any(pool.overlaps(other) for other in seen if other.version == pool.version):
            raise Invalid(f"{quote(text)} overlaps another pool", field=field)
        if pool.version == 4 and pool.prefixlen > networks.subnet_size:
            raise Invalid(f"{pool} has no subnet of /{networks.subnet_size}", field=f"{path}.subnet_size")
        seen.append(pool)
    if not 8 <= networks.subnet_size <= SUBNET_SIZE_MAX:
        raise Invalid(
            f"the size of subnets is 8 to {SUBNET_SIZE_MAX} bits, not {networks.subnet_size}",
            field=f"{path}.subnet_size",
        )
    if not VXLAN_PORT_MIN <= networks.vxlan_port <= PORT_MAX:
        raise Invalid(
            f"the port of VXLAN is {VXLAN_PORT_MIN} to {PORT_MAX}, not {networks.vxlan_port}",
            field=f"{path}.vxlan_port",
            hint="4789 is everybody's default",
        )
