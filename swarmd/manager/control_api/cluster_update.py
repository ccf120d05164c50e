"""What an update of the cluster makes of it: settings, root, join tokens, unlock key. Pure; dice are passed in.

What has to be asked of external CAs was asked before (`Prepared`): a transaction cannot wait for anybody.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec.structs import replace

from swarmd.errors import Conflict, NotFound, SwarmError
from swarmd.model import CAConfig, Cluster, ClusterSpec, ExternalCA, RootCA, UnlockKey
from swarmd.pki import NewRoot, begin_rotation, cross_sign, decide_root, fingerprint, new_token, own_root
from swarmd.wire.cluster import UpdateCluster

UNLOCK_KEY_BYTES: Final = 32
_AGAIN: Final = "somebody else changed it; read it again and repeat what you want"


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked of others before the transaction.

    `reachable`: fingerprints of roots for which a listed external CA answers. `own`: the root made for a forced
    rotation, the same in every try. `crossed`: by the fingerprints of the present and of the new root, the latter as
    signed by the former's external CA. `problem`: why that could not be had.
    """

    reachable: frozenset[str] = frozenset()
    own: NewRoot | None = None
    crossed: dict[tuple[str, str], bytes] = {}
    problem: SwarmError | None = None


def merged_ca(stored: CAConfig, wanted: CAConfig) -> CAConfig:
    """`wanted` with what its author cannot have seen: the options of external CAs that are listed as they were. The
    counter of forced rotations never goes back."""
    known = {_place(external): external.options for external in stored.external_cas}
    externals = tuple(
        external if external.options else replace(external, options=known.get(_place(external), {}))
        for external in wanted.external_cas
    )
    return replace(wanted, external_cas=externals, force_rotate=max(stored.force_rotate, wanted.force_rotate))


def concerns_root(cluster: Cluster, wanted: CAConfig) -> bool:
    """Whether the (merged) wish says anything about the root or who signs for it. Whoever changes something else need
    not wait for an external CA."""
    return bool(
        wanted.signing_ca_certificate
        or wanted.signing_ca_key
        or wanted.force_rotate > cluster.root_ca.last_forced_rotation
        or wanted.external_cas != cluster.spec.ca.external_cas
    )


def decide(cluster: Cluster, wanted: CAConfig, prepared: Prepared, *, now: float) -> RootCA | NewRoot:
    """See `pki.decide_root`. Raises `Invalid`."""
    return decide_root(
        cluster.root_ca,
        wanted,
        is_reachable=lambda certificate: fingerprint(certificate) in prepared.reachable,
        make_root=lambda: prepared.own or own_root(now),
        now=now,
    )


def updated(cluster: Cluster, request: UpdateCluster, prepared: Prepared, *, now: float, rng: random.Random) -> Cluster:
    """The cluster as the request wants it. Raises `NotFound`, `Conflict`, `Invalid`, and `prepared.problem`."""
    if request.id != cluster.id:
        raise NotFound(f"there is no cluster {request.id}", hint="swarmctl cluster ls")
    if request.version not in (0, cluster.meta.version):
        raise Conflict(
            f"update out of sequence: the cluster is at version {cluster.meta.version}, not {request.version}",
            hint=_AGAIN,
        )
    wanted = merged_ca(cluster.spec.ca, request.spec.ca)
    root = cluster.root_ca
    if concerns_root(cluster, wanted):
        decided = decide(cluster, wanted, prepared, now=now)
        if isinstance(decided, NewRoot):
            crossed = _crossed(cluster.root_ca, decided, prepared)
            root = begin_rotation(
                cluster.root_ca, decided, cross_signed=crossed, force_rotate=wanted.force_rotate, now=now
            )
            # "The present root" will soon mean another one.
            wanted = replace(wanted, external_cas=_pinned(wanted.external_cas, root.certificate))
        else:
            root = decided
    # What was wished for is in `root_ca` now; a second copy of a CA's key would only be one more to lose.
    spec = replace(request.spec, ca=replace(wanted, signing_ca_certificate=b"", signing_ca_key=b""))
    root = _with_tokens(root, request, rng)
    unlock_key = _unlock_key(cluster.unlock_key, spec, rng.randbytes, is_asked=request.rotate_unlock_key)
    return replace(cluster, spec=spec, root_ca=root, unlock_key=unlock_key)


def _crossed(root: RootCA, new: NewRoot, prepared: Prepared) -> bytes:
    if root.key:
        return cross_sign(root, new)
    found = prepared.crossed.get((fingerprint(root.certificate), fingerprint(new.certificate)))
    if found is None:
        raise prepared.problem or Conflict("the root changed while its external CA was asked", hint=_AGAIN)
    return found


def _pinned(externals: tuple[ExternalCA, ...], root: bytes) -> tuple[ExternalCA, ...]:
    return tuple(
        external if external.ca_certificate else replace(external, ca_certificate=root) for external in externals
    )


def _with_tokens(root: RootCA, request: UpdateCluster, rng: random.Random) -> RootCA:
    """While the root is rotated tokens still pin the present one: that is what joiners are shown."""
    tokens = root.join_tokens
    if request.rotate_worker_token:
        tokens = replace(tokens, worker=new_token(root.digest, rng))
    if request.rotate_manager_token:
        tokens = replace(tokens, manager=new_token(root.digest, rng))
    return replace(root, join_tokens=tokens)


def _unlock_key(
    present: UnlockKey, spec: ClusterSpec, random_bytes: Callable[[int], bytes], *, is_asked: bool
) -> UnlockKey:
    """A new key when locking begins, or on request while it is on; none when it ends."""
    if spec.encryption.auto_lock_managers:
        if present.key and not is_asked:
            return present
        return UnlockKey(version=present.version + 1, key=random_bytes(UNLOCK_KEY_BYTES))
    return UnlockKey(version=present.version + 1) if present.key else present


def _place(external: ExternalCA) -> tuple[str, str]:
    return external.url, external.protocol
