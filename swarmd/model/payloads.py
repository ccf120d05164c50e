"""Secrets and configs: payloads that tasks are given as files."""

from __future__ import annotations

import msgspec

from swarmd.model.common import Driver, IndexEntry, Meta


class SecretSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A secret: its payload, or the driver that is asked for it. `templating`: expanded on the node, by that engine."""

    name: str
    labels: dict[str, str] = {}
    indices: tuple[IndexEntry, ...] = ()
    data: bytes = b""
    templating: Driver | None = None
    driver: Driver | None = None

    def __repr__(self) -> str:
        """Without the payload: representations end in logs and tracebacks."""
        return f"SecretSpec(name={self.name!r}, data=<{len(self.data)} bytes>)"


class SealedPayload(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """A payload sealed with AES-256-GCM under the cluster's payload key `key_id`, bound to its secret's id."""

    key_id: int
    nonce: bytes
    ciphertext: bytes

    def __repr__(self) -> str:
        return f"SealedPayload({len(self.ciphertext)} bytes)"


class Secret(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A secret. `internal`: made by the swarm, and shown in no list. What is stored has its payload in `sealed`, and
    `spec.data` is empty."""

    id: str
    meta: Meta = Meta()
    spec: SecretSpec
    internal: bool = False
    sealed: SealedPayload | None = None


class ConfigSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A config: as a secret, but whoever may list it may read it."""

    name: str
    labels: dict[str, str] = {}
    indices: tuple[IndexEntry, ...] = ()
    data: bytes = b""
    templating: Driver | None = None

    def __repr__(self) -> str:
        """Without the payload, which may be large, and a secret after all."""
        return f"ConfigSpec(name={self.name!r}, data=<{len(self.data)} bytes>)"


class Config(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A config."""

    id: str
    meta: Meta = Meta()
    spec: ConfigSpec
