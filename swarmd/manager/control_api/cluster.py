"""The one cluster object: shown without its keys, and changed.

Sources: reference security 4.2; SwarmKit `manager/controlapi/cluster.go`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from swarmd.errors import Invalid, SwarmError, Unavailable
from swarmd.manager.control_api import redact
from swarmd.manager.control_api.access import Access
from swarmd.manager.control_api.cluster_update import Prepared, concerns_root, decide, merged_ca, updated
from swarmd.manager.external_ca import ExternalSigners
from swarmd.manager.root_progress import progress
from swarmd.model import CAConfig, Cluster, RootCA, validate_cluster_spec
from swarmd.pki import NewRoot, fingerprint, normal_root, own_root, root_expiry
from swarmd.state.store import State
from swarmd.state.transaction import Transaction
from swarmd.transport.connection import Call, UnaryHandler
from swarmd.wire.cluster import ClusterView, GetCluster, RootView, UpdateCluster
from swarmd.wire.methods import CLUSTER_GET, CLUSTER_UPDATE, Method


class ClusterHandlers:
    """Serves `cluster.get` and `cluster.update`. `rng` makes tokens and unlock keys."""

    def __init__(
        self, access: Access, *, signers: ExternalSigners, now: Callable[[], float], rng: random.Random
    ) -> None:
        self._access = access
        self._signers = signers
        self._now = now
        self._rng = rng

    def handlers(self) -> dict[Method[Any, Any], UnaryHandler]:
        return {CLUSTER_GET: self.get, CLUSTER_UPDATE: self.update}

    async def get(self, call: Call, request: GetCluster) -> ClusterView:
        """Raises `Unavailable` on a manager that has not received the state yet."""
        state = await self._access.read(call)
        return cluster_view(state, _require(state.cluster()))

    async def update(self, call: Call, request: UpdateCluster) -> ClusterView:
        """Change the settings, rotate what the request says.

        External CAs are asked first, at most 5 s each, if the request concerns the root. Raises `Invalid`, `NotFound`,
        `Conflict` for another version, `FailedPrecondition` while a manager does not know what the request needs.
        """
        if not request.id:
            raise Invalid("the cluster's id is missing", field="$.id")
        validate_cluster_spec(request.spec)
        _check_certificates(request.spec.ca)
        prepared = await self._prepare(request)
        written = await self._access.write(call, request, lambda tx: self._update(tx, request, prepared))
        state = self._access.state
        return cluster_view(state, _require(state.cluster() or written.result))

    def _update(self, tx: Transaction, request: UpdateCluster, prepared: Prepared) -> Cluster:
        old = _require(tx.cluster())
        new = updated(old, request, prepared, now=tx.now, rng=self._rng)
        if new != old:
            tx.update(new)
        return new

    async def _prepare(self, request: UpdateCluster) -> Prepared:
        """Ask others what the transaction will need to know. Raises nothing that the request is to blame for: a retry
        of what was done is answered by the transaction, before anything is judged."""
        await self._access.linearize()
        cluster = _require(self._access.state.cluster())
        wanted = merged_ca(cluster.spec.ca, request.spec.ca)
        if not concerns_root(cluster, wanted):
            return Prepared()
        externals, now = wanted.external_cas, self._now()
        prepared = Prepared(reachable=await self._signers.reachable(cluster.root_ca, externals), own=own_root(now))
        try:
            decided = decide(cluster, wanted, prepared, now=now)
            if not isinstance(decided, NewRoot) or cluster.root_ca.key:
                return prepared
            crossed = await self._signers.cross_sign(cluster.root_ca, externals, decided, now=now)
        except SwarmError as error:
            return replace(prepared, problem=error)
        key = (fingerprint(cluster.root_ca.certificate), fingerprint(decided.certificate))
        return replace(prepared, crossed={key: crossed})


def cluster_view(state: State, cluster: Cluster) -> ClusterView:
    """The cluster as it may be shown, with what is worth knowing of its root."""
    rotation = cluster.root_ca.rotation
    return ClusterView(
        cluster=redact.cluster(cluster),
        root=_root_view(cluster.root_ca),
        rotation=progress(state.nodes(), rotation) if rotation is not None else None,
    )


def _root_view(root: RootCA) -> RootView:
    if not root.certificate:
        return RootView()
    return RootView(
        fingerprint=fingerprint(root.certificate), expires_at=root_expiry(root.certificate), has_key=bool(root.key)
    )


def _check_certificates(ca: CAConfig) -> None:
    """What stands in the settings is read at every signature: it must be readable."""
    for position, external in enumerate(ca.external_cas):
        if not external.ca_certificate:
            continue
        try:
            normal_root(external.ca_certificate)
        except Invalid as error:
            raise Invalid(error.message, field=f"$.spec.ca.external_cas[{position}].ca_certificate") from error


def _require(cluster: Cluster | None) -> Cluster:
    if cluster is None:
        raise Unavailable("this manager has not received the swarm's state yet", hint="try again in a moment")
    return cluster
