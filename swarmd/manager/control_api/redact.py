"""What must not leave: applied to every object on its way into a reply, by the only functions that build replies.

The keys of CAs, disks and payloads never leave at all. Certificate requests and certificates are noise to a reader.
Join tokens stay: whoever holds the control socket may read them (foundations: Settled).
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar, get_args

import msgspec
from msgspec.structs import replace

from swarmd.manager.control_api.secret_fields import SECRET, SHOWN, is_secret
from swarmd.model import Cluster, Node

S = TypeVar("S", bound=msgspec.Struct)


def cluster(stored: Cluster) -> Cluster:
    """The cluster without any key, and without what was asked of its CA that is nobody else's business: the wanted
    signing certificate, options of external CAs. Join tokens stay."""
    root, ca = stored.root_ca, stored.spec.ca
    rotation = root.rotation and replace(root.rotation, key=b"")
    externals = tuple(replace(external, options={}) for external in ca.external_cas)
    hidden = replace(ca, signing_ca_certificate=b"", signing_ca_key=b"", external_cas=externals)
    return replace(
        stored,
        spec=replace(stored.spec, ca=hidden),
        root_ca=replace(root, key=b"", rotation=rotation),
        unlock_key=replace(stored.unlock_key, key=b""),
        payload_keys=tuple(replace(key, key=b"") for key in stored.payload_keys),
    )


def node(stored: Node) -> Node:
    """The node without its request and certificate; when it expires and how issuance stands is kept."""
    return replace(stored, certificate=replace(stored.certificate, csr=b"", certificate=b""))


def without_secrets(stored: S) -> S:
    """`stored` with everything blank that `secret_fields` calls secret, join tokens included.

    For streams of whatever is stored: they end in files and pipes, and whoever needs a token reads the cluster.
    """
    type_ = type(stored)
    if not _may_hold_secrets(type_):
        return stored
    changed: dict[str, Any] = {}
    for name in type_.__struct_fields__:
        value = getattr(stored, name)
        shown = type(value)() if value and is_secret(type_, name, value) else _shown(value)
        if shown is not value:
            changed[name] = shown
    return replace(stored, **changed) if changed else stored


def _shown(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return without_secrets(value)
    if isinstance(value, tuple) and value:
        return tuple([_shown(item) for item in value])
    if isinstance(value, dict) and value:
        return {key: _shown(item) for key, item in value.items()}
    return value


@cache
def _may_hold_secrets(type_: type[msgspec.Struct]) -> bool:
    """Whether a field of `type_`, or of what is in it, is secret or may hold bytes: most objects need no look."""
    return any(
        (type_, field.name) in SECRET or ((type_, field.name) not in SHOWN and _is_suspect(field.type))
        for field in msgspec.structs.fields(type_)
    )


def _is_suspect(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return _may_hold_secrets(annotation)
    return annotation is bytes or annotation is Any or any(_is_suspect(part) for part in get_args(annotation))
