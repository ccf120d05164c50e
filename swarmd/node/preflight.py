"""Looked at before a swarm is founded: a start that must be refused leaves no swarm behind."""

from __future__ import annotations

import errno
import socket

from swarmd.errors import FailedPrecondition
from swarmd.node.config import Config, Endpoint
from swarmd.transport.control_socket import clear_stale


def refuse_busy_doors(config: Config) -> None:
    """Raise `FailedPrecondition`, naming the flag, if an address or socket that was asked for is taken. Blocking.

    Nothing is kept open: whoever takes it in the next moment is told by the listener itself.
    """
    if config.listen is not None and config.listen.port:
        _check_address(config.listen)
    if config.control_socket is not None and config.control_socket.parent.is_dir():
        clear_stale(config.control_socket)


def _check_address(endpoint: Endpoint) -> None:
    try:
        addresses = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in addresses:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except OSError as error:
        busy = error.errno == errno.EADDRINUSE
        raise FailedPrecondition(
            f"the address {endpoint} is in use" if busy else f"cannot listen on {endpoint}: {error.strerror or error}",
            field="--listen-remote-api",
            hint="choose another port" if busy else "give an address of this machine",
        ) from error
