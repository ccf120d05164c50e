"""Who holds which address of which network: the single writer's books, and the recount that they are held against.

What objects say is the truth; books are made of it at the beginning of a reign, all of it before anything new is given
(reference orchestration 8.3), and follow every change. `recounted` and `Books.differences` find what leaked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from swarmd.allocator.addresses import WARN_RATIO, AddressPool, parse_address
from swarmd.allocator.networks import is_node_local
from swarmd.errors import AlreadyExists, FailedPrecondition, Invalid, ResourceExhausted
from swarmd.model import Network, Node, Service, Task, TaskState

_ENDED: Final = TaskState.COMPLETE


class Holding(msgspec.Struct, frozen=True, gc=False):
    """An address (CIDR) in a network, and who has it: `service ID`, `task ID` or `node ID`."""

    network_id: str
    address: str
    holder: str


class SubnetUsage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """How many addresses of a subnet are taken, of how many that can be."""

    subnet: str
    used: int
    total: int

    @property
    def is_scarce(self) -> bool:
        """Whether a warning is due."""
        return self.used >= WARN_RATIO * self.total


def holdings_of(object: Service | Task | Node) -> Iterator[Holding]:
    """What an object holds. A task that has ended holds nothing, whatever its record says."""
    match object:
        case Service():
            for vip in object.endpoint.virtual_ips if object.endpoint is not None else ():
                yield Holding(vip.network_id, vip.addr, f"service {object.id}")
        case Task():
            if object.status.state < _ENDED:
                for attachment in object.networks:
                    for address in attachment.addresses:
                        yield Holding(attachment.network_id, address, f"task {object.id}")
        case Node():
            for attachment in object.attachments:
                for address in attachment.addresses:
                    yield Holding(attachment.network_id, address, f"node {object.id}")


def recounted(objects: Iterable[Service | Task | Node]) -> tuple[dict[tuple[str, str], str], tuple[str, ...]]:
    """(network, address) -> holder as the objects say, and a line for each address that two of them claim: the first
    keeps it."""
    holders: dict[tuple[str, str], str] = {}
    doubles: list[str] = []
    for object in objects:
        for holding in holdings_of(object):
            first = holders.setdefault((holding.network_id, holding.address), holding.holder)
            if first != holding.holder:
                doubles.append(f"{holding.address} of network {holding.network_id}: {first} and {holding.holder}")
    return holders, tuple(doubles)


def usage_of(network: Network, holdings: Iterable[Holding]) -> tuple[SubnetUsage, ...]:
    """How full each subnet of a network is."""
    books = Books([network])
    for holding in holdings:
        books.restore(holding)
    return books.usage(network.id)


class Books:
    """Args: `networks` whose addresses are given. Those of node-local drivers have none to give."""

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._pools: dict[str, list[AddressPool]] = {}
        self._holders: dict[tuple[str, str], str] = {}
        for network in networks:
            self.open(network)

    def open(self, network: Network) -> None:
        """A network came. One that is there stays as it is: subnets never change."""
        if network.id in self._pools or network.ipam is None or is_node_local(network):
            return
        self._pools[network.id] = [
            AddressPool(config.subnet, config.gateway, config.range, tuple(config.reserved.values()))
            for config in network.ipam.configs
        ]

    def close(self, network_id: str) -> None:
        """A network went, and with it whatever is still held in it."""
        self._pools.pop(network_id, None)
        for key in [key for key in self._holders if key[0] == network_id]:
            del self._holders[key]

    def restore(self, holding: Holding) -> str:
        """Enter what an object holds already. The reason if it cannot be (somebody else has it, or nobody could); ""
        if it is entered."""
        key = holding.network_id, holding.address
        if self._holders.get(key) == holding.holder:
            return ""
        try:
            self._claim(holding.network_id, holding.address, holding.holder)
        except (AlreadyExists, Invalid, FailedPrecondition) as error:
            return f"{holding.holder}: {error}"
        return ""

    def take(self, network_id: str, holder: str, preferred: Sequence[str] = ()) -> tuple[str, ...]:
        """Addresses (CIDR) for one attachment: one of each IP version that the network has, and all `preferred` ones.

        Raises `FailedPrecondition` for a network that gives none, `ResourceExhausted`, `AlreadyExists` or `Invalid`
        for a preferred one that cannot be had. Nothing is taken then.
        """
        pools = self._pools_of(network_id)
        taken: list[str] = []
        try:
            for address in preferred:
                taken.append(self._claim(network_id, address, holder))
            for version in sorted({pool.subnet.version for pool in pools}):
                mine = [pool for pool in pools if pool.subnet.version == version]
                if not any(pool.holds(parse_address(text)) for pool in mine for text in taken):
                    taken.append(self._next(network_id, mine, holder))
        except (ResourceExhausted, AlreadyExists, Invalid):
            for address in taken:
                self.release(Holding(network_id, address, holder))
            raise
        return tuple(taken)

    def release(self, holding: Holding) -> bool:
        """Give back what the holder has; False if it is not (or no more) its."""
        key = holding.network_id, holding.address
        if self._holders.get(key) != holding.holder:
            return False
        del self._holders[key]
        address = parse_address(holding.address)
        for pool in self._pools.get(holding.network_id, ()):
            pool.free(address)
        return True

    def usage(self, network_id: str) -> tuple[SubnetUsage, ...]:
        """How full each subnet is."""
        return tuple(
            SubnetUsage(subnet=str(pool.subnet), used=pool.used, total=pool.total)
            for pool in self._pools.get(network_id, ())
        )

    def differences(self, objects: Iterable[Service | Task | Node]) -> tuple[str, ...]:
        """A line for each address that is held without its object saying so, that an object says it holds and does not,
        or that two say they hold. Nothing: nothing leaked."""
        holders, doubles = recounted(objects)
        lines = list(doubles)
        for key, holder in self._holders.items():
            if holders.get(key) != holder:
                lines.append(f"{key[1]} of network {key[0]} is kept for {holder}, which does not hold it")
        for key, holder in holders.items():
            if self._holders.get(key) != holder:
                lines.append(f"{key[1]} of network {key[0]} is held by {holder}, for whom it is not kept")
        for network_id, pools in self._pools.items():
            kept = {address for id, address in self._holders if id == network_id}
            marked = {address for pool in pools for address in pool.taken()}
            lines += [f"{address} of network {network_id} is marked and nobody's" for address in marked - kept]
            lines += [f"{address} of network {network_id} is somebody's and unmarked" for address in kept - marked]
        return tuple(lines)

    def _pools_of(self, network_id: str) -> list[AddressPool]:
        pools = self._pools.get(network_id)
        if not pools:
            raise FailedPrecondition(f"network {network_id} gives no addresses", hint="it is gone, or each node's own")
        return pools

    def _claim(self, network_id: str, wanted: str, holder: str) -> str:
        pools, address = self._pools_of(network_id), parse_address(wanted)
        for pool in pools:
            if pool.holds(address):
                text = pool.claim(address)
                self._holders[network_id, text] = holder
                return text
        raise Invalid(f"address {address} lies in no subnet of network {network_id}")

    def _next(self, network_id: str, pools: Sequence[AddressPool], holder: str) -> str:
        """From the first subnet that has one left."""
        for pool in pools:
            if pool.used < pool.total:
                text = pool.take()
                self._holders[network_id, text] = holder
                return text
        return pools[-1].take()  # raises, naming the subnet


def rebuilt(
    networks: Iterable[Network], objects: Iterable[Service | Task | Node]
) -> tuple[Books, tuple[tuple[Holding, str], ...]]:
    """The books as objects have it, and what could not be entered with the reason: their holders need another one."""
    books, refused = Books(networks), []
    for object in objects:
        for holding in holdings_of(object):
            if reason := books.restore(holding):
                refused.append((holding, reason))
    return books, tuple(refused)
