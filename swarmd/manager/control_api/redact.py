"""What must not leave: applied to every object on its way into a reply, by the only functions that build replies.

The CA's key never leaves at all. Certificate requests and certificates are noise to a reader. Join tokens stay:
whoever holds the control socket may read them (foundations: Settled).
"""

from __future__ import annotations

from msgspec.structs import replace

from swarmd.model import Cluster, Node


def cluster(stored: Cluster) -> Cluster:
    """The cluster without its CA's key."""
    return replace(stored, root_ca=replace(stored.root_ca, key=b""))


def node(stored: Node) -> Node:
    """The node without its request and certificate; when it expires and how issuance stands is kept."""
    return replace(stored, certificate=replace(stored.certificate, csr=b"", certificate=b""))
