"""TLS 1.3 contexts from PEM bytes, swapped live (reference security 1.3, 11)."""

from __future__ import annotations

import ssl

from swarmd.wire.identity import Identity


class Credentials:
    """A node's current certificate, key and trust root. New connections use what was last `replace`d.

    Keys never touch the disk to be loaded (memfd). Session tickets are off; a peer that shows no certificate is let in
    without an identity (`CERT_OPTIONAL`) and may call the three anonymous methods only.
    """

    def __init__(self, *, certificate: bytes, key: bytes, root: bytes) -> None:
        raise NotImplementedError

    identity: Identity
    root: bytes

    def replace(self, *, certificate: bytes, key: bytes, root: bytes) -> None:
        """Use these from the next handshake on. Raises `Invalid` and changes nothing if they do not fit together."""
        raise NotImplementedError

    def server_context(self) -> ssl.SSLContext:
        raise NotImplementedError

    def client_context(self) -> ssl.SSLContext:
        """Verifies that the peer is a manager of this swarm's root (SAN `swarm-manager`)."""
        raise NotImplementedError


def joining_context(root: bytes | None) -> ssl.SSLContext:
    """For a node without a certificate: verifies `swarm-ca` under `root`, or nothing if `root` is None (the token's
    digest then decides)."""
    raise NotImplementedError
