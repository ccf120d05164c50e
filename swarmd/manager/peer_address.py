"""Where a caller's packets come from, without the port, which differs at every connection."""

from __future__ import annotations


def host_of(address: str) -> str:
    """The host of `host:port` or `[v6]:port`; an address without a port (also a bare IPv6 one) as it is."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    host, colon, port = address.rpartition(":")
    return host if colon and port.isdigit() and ":" not in host else address
