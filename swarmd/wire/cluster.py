"""What `swarmctl cluster` says: the swarm's settings, its tokens, its root, its unlock key."""

from __future__ import annotations

import msgspec

from swarmd.model import Cluster, ClusterSpec


class GetCluster(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The one cluster object."""


class WaitingNode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A node that a root rotation still waits for, and why."""

    node_id: str
    hostname: str = ""
    reason: str = ""


class RotationProgress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """How far a root rotation is: so many of all nodes were seen with a certificate of the new root."""

    started_at: float
    fingerprint: str
    """Of the new root: SHA-256 of its DER, 64 hex digits."""
    done: int
    total: int
    waiting: tuple[WaitingNode, ...] = ()
    """At most 20 of the others."""


class RootView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What an operator wants to know of the root."""

    fingerprint: str = ""
    expires_at: float = 0.0
    has_key: bool = True
    """False: an external CA signs."""


class ClusterView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The cluster with its join tokens, and without its keys and what is asked of its CA."""

    cluster: Cluster
    root: RootView = RootView()
    rotation: RotationProgress | None = None


class UpdateCluster(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Replace the cluster's spec. `version` is the `meta.version` it was read at (0: whatever is there).

    Of the fields of `spec.ca` that are never shown, empty ones change nothing.
    """

    id: str
    spec: ClusterSpec
    version: int = 0
    rotate_worker_token: bool = False
    rotate_manager_token: bool = False
    rotate_unlock_key: bool = False


class GetUnlockKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Ask for the unlock key: a manager that joins or renews, or an operator."""


class UnlockKeyReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The key (32 bytes, empty while autolock is off), its version, and the key as operators see it.

    `is_on`: the swarm's settings say that managers are locked. No key together with that is never to be believed."""

    key: bytes = b""
    version: int = 0
    shown: str = ""
    is_on: bool = False

    def __repr__(self) -> str:
        """Without the key."""
        return f"UnlockKeyReply(version={self.version})"


class Unlock(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Unlock the daemon behind the socket with the key as it was shown (`SWMKEY-1-...`)."""

    key: str

    def __repr__(self) -> str:
        """Without the key."""
        return "Unlock()"


class Unlocked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Which node is unlocked now."""

    node_id: str
