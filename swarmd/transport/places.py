"""Places, so many in all and so many for one network, so that whoever dawdles or gathers holds up its own only: for
handshakes, whose callers wait for one, and for connections, whose callers are refused.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from swarmd.errors import ResourceExhausted

IN_ALL_MAX: Final = 512
"""At once; each costs about a millisecond of the loop."""
OF_A_NETWORK_MAX: Final = 64
SOCKETS_OF_A_NETWORK_MAX: Final = 1_024
"""Not greeted yet: a whole site may come back at once behind one address, and its handshakes take a second or two."""
ANONYMOUS_IN_ALL_MAX: Final = 4_096
"""A quarter of all connections: whoever has no certificate never takes the last place of those who have one."""
ANONYMOUS_OF_A_NETWORK_MAX: Final = 64
ANONYMOUS_RETRY_S: Final = 2.0
"""When a joiner that found no place comes again: a joining takes a fraction of it."""
OF_A_NODE_MAX: Final = 64
"""A worker has one or two, a manager four or five to each other, and twice as many while its certificate changes."""
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


class SocketPlaces:
    """Counts sockets that have not shown yet who is behind them: from one network, never so many that no others fit."""

    def __init__(self, of_a_network: int = SOCKETS_OF_A_NETWORK_MAX) -> None:
        self._of_a_network = of_a_network
        self._networks: Counter[str] = Counter()

    def take(self, host: str) -> Callable[[], None]:
        """A place for a socket from `host`; call what is returned to give it back. Raises `ResourceExhausted`."""
        return _counted(
            self._networks, network_of(host), self._of_a_network, "your network has", "they wait for their handshake"
        )


class ConnectionPlaces:
    """Counts greeted connections: of each node, and of each network those of peers without a certificate."""

    def __init__(
        self,
        *,
        of_a_node: int = OF_A_NODE_MAX,
        anonymous_of_a_network: int = ANONYMOUS_OF_A_NETWORK_MAX,
        anonymous_in_all: int = ANONYMOUS_IN_ALL_MAX,
    ) -> None:
        self._of_a_node = of_a_node
        self._anonymous_of_a_network = anonymous_of_a_network
        self._anonymous_in_all = anonymous_in_all
        self._nodes: Counter[str] = Counter()
        self._networks: Counter[str] = Counter()
        self._anonymous = 0

    def take(self, node_id: str, host: str) -> Callable[[], None]:
        """A place for a node, or (`node_id` empty) for somebody without a certificate at `host`; call what is returned
        to give it back. Raises `ResourceExhausted` if there is none."""
        if node_id:
            return _counted(self._nodes, node_id, self._of_a_node, f"node {node_id} has", "is its identity used twice?")
        if self._anonymous >= self._anonymous_in_all:
            raise ResourceExhausted(
                f"{self._anonymous} connections without a certificate are open already",
                hint="try again later",
                retry_after_s=ANONYMOUS_RETRY_S,
            )
        hint = "close some, or wait until they end by themselves"
        give_back = _counted(
            self._networks,
            network_of(host),
            self._anonymous_of_a_network,
            "without a certificate, your network has",
            hint,
            retry_after_s=ANONYMOUS_RETRY_S,
        )
        self._anonymous += 1

        def give_both_back() -> None:
            self._anonymous -= 1
            give_back()

        return give_both_back


def _counted(
    counts: Counter[str], whose: str, limit: int, who_has: str, hint: str, retry_after_s: float | None = None
) -> Callable[[], None]:
    if counts[whose] >= limit:
        raise ResourceExhausted(
            f"{who_has} {counts[whose]} connections here already", hint=hint, retry_after_s=retry_after_s
        )
    counts[whose] += 1

    def give_back() -> None:
        counts[whose] -= 1
        if not counts[whose]:
            del counts[whose]

    return give_back


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
