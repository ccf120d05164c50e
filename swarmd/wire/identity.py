"""Who speaks. Made by `transport` from a verified certificate or the control socket, never from a message."""

from __future__ import annotations

import math

import msgspec

from swarmd.model import Role


class Identity(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a verified certificate says: CN, OU, O, which one it is, and until when."""

    node_id: str
    role: Role
    swarm_id: str
    fingerprint: str = ""
    """SHA-256 of its DER, 64 hex digits. Empty where nothing was verified: the control socket."""
    not_after: float = math.inf


class Caller(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The origin of a call.

    `identity` is None for a peer without a certificate. `is_local` marks the control socket, whose caller acts as
    this manager and is an administrator. `forwarder` is the manager that passed the call on, if one did.
    """

    identity: Identity | None = None
    is_local: bool = False
    address: str = ""
    forwarder: Identity | None = None
    uid: int | None = None
    """Control socket only: the peer's user id."""
    gid: int | None = None
    pid: int | None = None
    certificate: bytes = b""
    """The peer's leaf (DER), of a direct connection."""

    @property
    def actor(self) -> str:
        """Who is written as the author of a change."""
        if self.identity is None:
            return "anonymous"
        if not self.is_local:
            return f"node:{self.identity.node_id}"
        # The same at the first try, at a retry and after a hop: idempotency keys are bound to it.
        return f"operator@{self.identity.node_id}" + ("" if self.uid is None else f" uid:{self.uid}")


class ForwardedCaller(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The caller as a follower saw it, in the `forwarded` header. Believed only from a manager of this swarm."""

    node_id: str = ""
    role: Role = Role.WORKER
    swarm_id: str = ""
    is_local: bool = False
    address: str = ""
    fingerprint: str | msgspec.UnsetType = msgspec.UNSET
    uid: int | msgspec.UnsetType = msgspec.UNSET
