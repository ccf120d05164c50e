"""The swarm's certificate authority: makes the root, signs CSRs (reference security 1.1)."""

from __future__ import annotations

import random
from typing import Self

import msgspec

from swarmd.model import Role


class Subject(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a node certificate says: CN, OU, O, and until when."""

    node_id: str
    role: Role
    swarm_id: str
    not_before: float
    not_after: float


class Authority:
    """A root certificate and its key (both PEM)."""

    certificate: bytes
    key: bytes

    def __init__(self, certificate: bytes, key: bytes) -> None:
        """Raises `Invalid` unless the key is the certificate's."""
        raise NotImplementedError

    @classmethod
    def create(cls, now: float) -> Self:
        """A new P-256 root with a CN of its own, valid 20 years."""
        raise NotImplementedError

    def sign(self, csr: bytes, *, node_id: str, role: Role, swarm_id: str, now: float, expiry_s: float) -> bytes:
        """A node certificate (PEM) for the key in `csr`. Only the public key is taken from it; its self-signature is
        checked. Raises `Invalid` (garbage, > 16 KiB, weak key)."""
        raise NotImplementedError


def new_key_and_csr() -> tuple[bytes, bytes]:
    """A fresh P-256 key (PKCS#8 PEM) and a CSR with an empty subject for it."""
    raise NotImplementedError


def read_subject(certificate: bytes, *, der: bool = False) -> Subject:
    """What a node certificate says. Raises `Invalid` unless it has exactly one CN, OU and O and a role we know."""
    raise NotImplementedError


def verify_issued(certificate: bytes, *, root: bytes, key: bytes, now: float) -> Subject:
    """Check that `certificate` chains to `root`, is in date and belongs to `key`. Raises `Invalid`."""
    raise NotImplementedError


def root_digest(root: bytes) -> str:
    """SHA-256 over the exact PEM bytes, base 36, 50 characters: the digest in a join token."""
    raise NotImplementedError


def renewal_at(subject: Subject, rng: random.Random) -> float:
    """When to renew: uniform in 50-80 % of what is left after the backdate."""
    raise NotImplementedError
