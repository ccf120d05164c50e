"""Places for handshakes: so many in all, and so many for one network, so that whoever dawdles holds up its own only."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

IN_ALL_MAX: Final = 512
"""At once; each costs about a millisecond of the loop."""
OF_A_NETWORK_MAX: Final = 64
V6_NETWORK_BITS: Final = 64
"""Whoever has one IPv6 address usually has all of its /64."""


class HandshakePlaces:
    """Whoever wants one waits, behind those of the same network first."""

    def __init__(self, in_all: int = IN_ALL_MAX, of_a_network: int = OF_A_NETWORK_MAX) -> None:
        self._in_all = trio.CapacityLimiter(in_all)
        self._of_a_network = of_a_network
        self._networks: dict[str, trio.CapacityLimiter] = {}
        self._users: dict[str, int] = {}

    @asynccontextmanager
    async def one(self, host: str) -> AsyncIterator[None]:
        """A place for a peer at `host` (an address), for as long as the block takes."""
        network = network_of(host)
        limiter = self._networks.setdefault(network, trio.CapacityLimiter(self._of_a_network))
        self._users[network] = self._users.get(network, 0) + 1
        try:
            async with limiter, self._in_all:
                yield
        finally:
            self._users[network] -= 1
            if not self._users[network]:
                del self._users[network], self._networks[network]


def network_of(host: str) -> str:
    """Whose place it takes: an IPv4 address, or the /64 of an IPv6 one. What is no address stands for itself."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.version == 4:
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, V6_NETWORK_BITS), strict=False))
