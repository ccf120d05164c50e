"""The addresses of one subnet: who takes one, gives it back, asks for a certain one. Pure, no state beside its own.

Search is serial from the last one given (next-fit, reference orchestration 8.4): an address that was freed comes last,
so that what still talks to its old holder does not reach the new one. What is taken is a set rather than a bitmap: a
subnet of IPv6 has 2^64 addresses, of which a few are used.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from swarmd.errors import AlreadyExists, Invalid, ResourceExhausted

Subnet = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

WARN_RATIO: Final = 0.8
"""Share of a subnet's addresses from which on a warning is due."""


class AddressPool:
    """Args: `subnet` (CIDR), `gateway` (bare, inside it; "" for none), `within`: the range (CIDR) that addresses are
    chosen from, "" for the whole subnet; asked for by name, an address may lie outside that range."""

    def __init__(self, subnet: str, gateway: str = "", within: str = "", reserved: tuple[str, ...] = ()) -> None:
        self.subnet: Subnet = ip_network(subnet, strict=False)
        self._base = int(self.subnet.network_address)
        self._size = self.subnet.num_addresses
        self._first, self._last = usable(self.subnet)
        chosen: Subnet = ip_network(within, strict=False) if within else self.subnet
        self._low = max(self._first, int(chosen.network_address) - self._base)
        self._high = min(self._last, int(chosen.broadcast_address) - self._base)
        self._kept = {self._offset(ip_address(text)) for text in (gateway, *reserved) if text}
        """Nobody's to take."""
        self._taken: set[int] = set()
        self._free = self.total
        self._next = self._low

    @property
    def total(self) -> int:
        """How many addresses can be chosen."""
        kept = sum(1 for offset in self._kept if self._low <= offset <= self._high)
        return max(0, self._high - self._low + 1 - kept)

    @property
    def used(self) -> int:
        """How many of those are taken."""
        return self.total - self._free

    def take(self) -> str:
        """The next free address (CIDR). Raises `ResourceExhausted`."""
        if not self._free:
            raise ResourceExhausted(
                f"could not find an available IP: all {self.total} addresses of {self.subnet} are in use",
                hint="remove what is not needed, or make a network with a larger subnet",
            )
        offset = self._next
        while offset in self._taken or offset in self._kept:
            offset = offset + 1 if offset < self._high else self._low
        self._mark(offset)
        self._next = offset + 1 if offset < self._high else self._low
        return self._text(offset)

    def claim(self, address: Address) -> str:
        """Take this very address; comes back as CIDR. Raises `Invalid` if it is none of the subnet's or
        the gateway's or reserved, `AlreadyExists` if it is taken."""
        offset = self._offset(address)
        if not self.holds(address) or not self._first <= offset <= self._last:
            raise Invalid(f"address {address} is none that {self.subnet} could give")
        if offset in self._kept:
            raise Invalid(f"address {address} is the gateway's, or reserved")
        if offset in self._taken:
            raise AlreadyExists(f"address {address} is in use")
        self._mark(offset)
        return self._text(offset)

    def free(self, address: Address) -> None:
        """Give an address back; nothing happens if nobody has it."""
        offset = self._offset(address)
        if self.holds(address) and offset in self._taken:
            self._taken.discard(offset)
            self._free += self._low <= offset <= self._high

    def holds(self, address: Address) -> bool:
        """Whether the address lies in the subnet."""
        return address.version == self.subnet.version and 0 <= int(address) - self._base < self._size

    def taken(self) -> frozenset[str]:
        """What is taken, as CIDRs."""
        return frozenset(self._text(offset) for offset in self._taken)

    def _mark(self, offset: int) -> None:
        self._taken.add(offset)
        self._free -= self._low <= offset <= self._high

    def _offset(self, address: Address) -> int:
        return int(address) - self._base

    def _text(self, offset: int) -> str:
        return f"{self.subnet.network_address + offset}/{self.subnet.prefixlen}"


def usable(subnet: Subnet) -> tuple[int, int]:
    """Offsets of the first and last address that a host may have: neither the network's own nor the broadcast (RFC 950;
    of IPv6 the last is as good as any, the first is the routers' anycast, RFC 4291 2.6.1). In subnets of one or two
    addresses every one counts (RFC 3021, RFC 6164)."""
    size = subnet.num_addresses
    if size <= 2:
        return 0, size - 1
    return 1, size - (2 if subnet.version == 4 else 1)


def parse_address(text: str) -> Address:
    """The address of `192.0.2.7` or `192.0.2.7/24`. Raises `Invalid`."""
    bare, slash, bits = text.partition("/")
    try:
        if slash and not (bits.isascii() and bits.isdigit() and int(bits) <= 128):
            raise ValueError
        return ip_address(bare)
    except ValueError:
        raise Invalid(f'"{text}" is not an address') from None


def first_fit(subnet: Subnet, is_wanted: Callable[[Address], bool] = lambda _: True) -> str:
    """The first address (bare) that a host may have and that is wanted: the gateway, where none was named. Raises
    `ResourceExhausted`."""
    first, last = usable(subnet)
    for offset in range(first, last + 1):
        address = subnet.network_address + offset
        if is_wanted(address):
            return str(address)
    raise ResourceExhausted(f"{subnet} has no address to spare for a gateway")
