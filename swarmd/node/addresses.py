"""Which address others should dial: what was asked for, else what the route to a peer says."""

from __future__ import annotations

import ipaddress
import socket

from swarmd.node.config import Config, Endpoint


def advertised(config: Config, port: int, peer: Endpoint | None) -> tuple[str, ...]:
    """The addresses to announce for a listener bound to `port`.

    Flags win; then a listen address that names one interface; then the local end of the route to `peer`; without a peer
    (a new swarm) the local end of the default route, and loopback for managers on the same machine.
    """
    if config.advertise:
        return tuple(str(endpoint) for endpoint in config.advertise)
    host = config.listen.host if config.listen else ""
    if host and not _is_wildcard(host):
        return (str(Endpoint(host, port)),)
    if peer is not None:
        return (str(Endpoint(_source_towards(peer.host) or "127.0.0.1", port)),)
    found = [_source_towards("192.0.2.1"), "127.0.0.1"]  # TEST-NET-1: only the routing table is asked
    return tuple(dict.fromkeys(str(Endpoint(host, port)) for host in found if host))


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _source_towards(host: str) -> str | None:
    """The local address that a packet to `host` would carry. Nothing is sent."""
    try:
        family, kind, _, _, target = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(target)
            return str(probe.getsockname()[0])
    except OSError:
        return None
