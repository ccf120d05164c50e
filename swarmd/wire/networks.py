"""What `swarmctl network` says."""

from __future__ import annotations

import msgspec

from swarmd.model import Network, NetworkSpec


class CreateNetwork(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A new network. Without subnets the swarm chooses one from its pools."""

    spec: NetworkSpec


class SubnetUse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """How many addresses of a subnet (CIDR) are taken, of how many that can be. `total` may be beyond 64 bits in IPv6,
    so both are at most 2^53."""

    subnet: str
    used: int = 0
    total: int = 0
    is_scarce: bool = False
    """Whether four fifths are taken."""


class NetworkView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A network, how full it is, and what is worth a warning."""

    network: Network
    usage: tuple[SubnetUse, ...] = ()
    services: int = 0
    """How many services refer to it."""
    warnings: tuple[str, ...] = ()


class NetworkList(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """By name."""

    networks: tuple[NetworkView, ...]
