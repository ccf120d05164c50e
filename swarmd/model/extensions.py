"""What the swarm keeps for others and knows nothing about: extensions are kinds, resources are objects of them."""

from __future__ import annotations

import msgspec

from swarmd.model.common import Annotations, Meta


class Extension(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A kind of resource, named by its annotations. Never updated."""

    id: str
    meta: Meta = Meta()
    annotations: Annotations
    description: str = ""


class Resource(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """An object of the extension that `kind` names. Names are unique among resources of all kinds."""

    id: str
    meta: Meta = Meta()
    annotations: Annotations
    kind: str
    payload: bytes = b""

    def __repr__(self) -> str:
        """Without the payload, of which nothing is known."""
        return f"Resource(id={self.id!r}, kind={self.kind!r}, payload=<{len(self.payload)} bytes>)"
