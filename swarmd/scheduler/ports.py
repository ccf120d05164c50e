"""Which host ports are taken on which nodes."""

from __future__ import annotations

from swarmd.model import PortProtocol

HostPort = tuple[PortProtocol, int]


class HostPorts:
    """`(protocol, port) -> nodes`. Two tasks may hold one port of a node for a while, as when one is wanted down."""

    def __init__(self) -> None:
        self.taken: dict[HostPort, int] = {}
        self._holders: dict[tuple[HostPort, int], list[str]] = {}

    def take(self, number: int, ports: tuple[HostPort, ...], holder: str) -> None:
        """A task of the service `holder` holds the ports on the node."""
        for port in ports:
            holders = self._holders.setdefault((port, number), [])
            holders.append(holder)
            if len(holders) == 1:
                self.taken[port] = self.taken.get(port, 0) | 1 << number

    def give_back(self, number: int, ports: tuple[HostPort, ...], holder: str) -> None:
        """It holds them no more."""
        for port in ports:
            holders = self._holders[port, number]
            holders.remove(holder)
            if not holders:
                del self._holders[port, number]
                left = self.taken[port] & ~(1 << number)
                if left:
                    self.taken[port] = left
                else:
                    del self.taken[port]

    def holding(self, ports: tuple[HostPort, ...]) -> int:
        """The nodes where one of the ports is taken."""
        mask = 0
        for port in ports:
            mask |= self.taken.get(port, 0)
        return mask

    def holders(self, port: HostPort, number: int) -> tuple[str, ...]:
        """The services (ids) that hold the port on the node."""
        return tuple(self._holders.get((port, number), ()))
