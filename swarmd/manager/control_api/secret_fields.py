"""Which stored fields are secrets: one list for every door that shows whole objects, and for the offline tools."""

from __future__ import annotations

import typing
from typing import Any, Final

import msgspec

from swarmd.model import (
    CAConfig,
    Cluster,
    ConfigSpec,
    ContainerSpec,
    Driver,
    ExternalCA,
    IndexEntry,
    JoinTokens,
    NodeCertificate,
    PayloadKey,
    Resource,
    RootCA,
    RootRotation,
    SealedPayload,
    SecretReference,
    SecretSpec,
    StoredObject,
    UnlockKey,
    VolumeInfo,
    VolumePublishStatus,
    VolumeSecret,
    VolumeSpec,
)

SECRET: Final[frozenset[tuple[type[msgspec.Struct], str]]] = frozenset(
    {
        (RootCA, "key"),
        (RootRotation, "key"),
        (CAConfig, "signing_ca_key"),
        (CAConfig, "signing_ca_certificate"),
        (UnlockKey, "key"),
        (PayloadKey, "key"),
        (SealedPayload, "nonce"),
        (SealedPayload, "ciphertext"),
        (ExternalCA, "options"),
        (JoinTokens, "worker"),
        (JoinTokens, "manager"),
        (NodeCertificate, "csr"),
        (NodeCertificate, "certificate"),
        (SecretSpec, "data"),
        (ConfigSpec, "data"),
        (Resource, "payload"),
        (Driver, "options"),
        (VolumePublishStatus, "publish_context"),
        (VolumeInfo, "volume_context"),
    }
)
"""Replaced as a whole. Byte strings are secrets unless they are in `SHOWN`: a field of later versions is hidden until
somebody decides otherwise."""
SHOWN: Final[frozenset[tuple[type[msgspec.Struct], str]]] = frozenset(
    {
        (RootCA, "certificate"),
        (RootRotation, "certificate"),
        (RootRotation, "cross_signed"),
        (ExternalCA, "ca_certificate"),
        (SealedPayload, "key_id"),
        (Cluster, "unlock_key"),
        (Cluster, "payload_keys"),
        (IndexEntry, "key"),
        (ContainerSpec, "secrets"),
        (SecretReference, "secret_id"),
        (SecretReference, "secret_name"),
        (VolumeSpec, "secrets"),
        (VolumeSecret, "key"),
        (VolumeSecret, "secret"),
    }
)
"""Bytes that are public, and what only sounds like a secret: names and ids of secrets."""
ASSIGNMENTS: Final[frozenset[tuple[type[msgspec.Struct], str]]] = frozenset({(ContainerSpec, "env")})
"""Lists of `NAME=value`: the names are shown, the values are not."""
STORED: Final[tuple[type[StoredObject], ...]] = typing.get_args(StoredObject)
"""Where a reader of the whole state begins."""


def is_secret(owner: type[msgspec.Struct], field: str, value: Any) -> bool:
    """Whether this field's value must not be shown."""
    return (owner, field) in SECRET or (isinstance(value, bytes) and (owner, field) not in SHOWN)


def without_value(assignment: str) -> str:
    """`NAME=value` without the value."""
    name, separator, _ = assignment.partition("=")
    return f"{name}=<redacted>" if separator else name
