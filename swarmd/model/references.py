"""How tasks speak of other objects: secrets, configs, networks, volumes."""

from __future__ import annotations

import msgspec


class FileTarget(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """As which file a task sees a payload. `uid` and `gid` are numbers in text."""

    name: str
    uid: str = "0"
    gid: str = "0"
    mode: int = 0o444


class SecretReference(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """A secret that a task needs, by id and by the name that it had when the task was described."""

    secret_id: str
    secret_name: str
    file: FileTarget | None = None


class ConfigReference(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """A config that a task needs. `is_runtime`: the executor itself reads it, no file is made."""

    config_id: str
    config_name: str
    file: FileTarget | None = None
    is_runtime: bool = False


class NetworkAttachmentConfig(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """A network that tasks are to be in. `target` is its id, `addresses` are preferred ones."""

    target: str
    aliases: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    driver_attachment_options: dict[str, str] = {}


class NetworkAttachmentSpec(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """A task that runs nothing: it holds an address for a container that somebody else runs."""

    container_id: str


class VolumeAttachment(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """A volume that a task got: its id, and the source and target of the mount that asked for it."""

    id: str
    source: str = ""
    target: str = ""
