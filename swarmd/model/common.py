"""What objects of several kinds carry: stamps, the user's annotations with indices of their own, a named driver."""

from __future__ import annotations

from typing import Final

import msgspec


class Meta(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """When an object was written, and by which log entry."""

    version: int = 0
    created_at: float = 0.0
    updated_at: float = 0.0


class IndexEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """One key by which its owner wants an object to be found (`ByCustom`). Keys may repeat."""

    key: str
    value: str = ""


class Annotations(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Name, labels and custom indices of an object that has no spec to hold them."""

    name: str = ""
    labels: dict[str, str] = {}
    indices: tuple[IndexEntry, ...] = ()


NO_ANNOTATIONS: Final = Annotations()


class Driver(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Who makes networks, addresses, secrets, volumes or texts from templates, and with what options."""

    name: str = ""
    options: dict[str, str] = {}
