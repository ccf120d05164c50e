"""What a joining or renewing node and the CA say to each other."""

from __future__ import annotations

import msgspec

from swarmd.model import Availability, IssuanceState, Role


class RootRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Ask for the trust root. The asker verifies nothing yet; the token's digest does."""


class RootReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The exact PEM bytes that join tokens digest."""

    certificate: bytes


class IssueRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Ask for a certificate: with a token (a new node), or over a verified connection (renewal, new role).

    `renewal_*` is the certless door for an expired certificate: the current certificate and a signature by its key
    over the CSR. `hostname` is what a new node calls itself until its first session.
    """

    csr: bytes
    token: str = ""
    hostname: str = ""
    availability: Availability = Availability.ACTIVE
    renewal_certificate: bytes = b""
    renewal_signature: bytes = b""


class IssueReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The node's id, and the certificate (PEM) if it could be made at once; else poll `ca.status` with the id."""

    node_id: str
    certificate: bytes = b""


class StatusRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Wait (up to the call's deadline) until the request with this CSR is decided."""

    node_id: str
    csr_sha256: bytes


class StatusReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The decision. `certificate` is PEM, set when ISSUED."""

    state: IssuanceState
    role: Role = Role.WORKER
    certificate: bytes = b""
    error: str = ""
