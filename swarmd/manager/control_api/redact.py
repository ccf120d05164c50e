"""What must not leave: applied to every object on its way into a reply, by the only functions that build replies.

The CA's key never leaves at all. Certificate requests and certificates are noise to a reader. Join tokens stay:
whoever holds the control socket may read them (foundations: Settled).
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
    """The cluster without its CA's key."""
    return replace(stored, root_ca=replace(stored.root_ca, key=b""))


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
