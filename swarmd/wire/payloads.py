"""What `swarmctl secret` and `swarmctl config` say. The payload of a secret never comes back."""

from __future__ import annotations

import msgspec

from swarmd.model import Config, ConfigSpec, Secret, SecretSpec


class ListPayloads(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """All secrets (or configs), or those that match: OR inside a field, AND between fields. A label is `KEY` or
    `KEY=VALUE`, all of them must match."""

    id_prefixes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    name_prefixes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


class CreateSecret(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A new secret."""

    spec: SecretSpec


class UpdateSecret(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Change a secret's labels, which is all that may change; `spec.data` empty means as it is. `version` is the
    `meta.version` it was read at (0: whatever is there)."""

    id: str
    spec: SecretSpec
    version: int = 0


class SecretView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A secret without its payload."""

    secret: Secret


class SecretList(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """By name. Those that the swarm made for itself are left out."""

    secrets: tuple[SecretView, ...]


class CreateConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A new config."""

    spec: ConfigSpec


class UpdateConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """As `UpdateSecret`."""

    id: str
    spec: ConfigSpec
    version: int = 0


class ConfigView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A config, payload and all. In a list the payload is left out."""

    config: Config


class ConfigList(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """By name."""

    configs: tuple[ConfigView, ...]
