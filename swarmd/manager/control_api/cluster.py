"""The one cluster object, without its CA's key."""

from __future__ import annotations

from typing import Any

from swarmd.errors import Unavailable
from swarmd.manager.control_api import redact
from swarmd.manager.control_api.access import Access
from swarmd.transport.connection import Call, UnaryHandler
from swarmd.wire.cluster import ClusterView, GetCluster
from swarmd.wire.methods import CLUSTER_GET, Method


class ClusterHandlers:
    """Serves `cluster.get`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def handlers(self) -> dict[Method[Any, Any], UnaryHandler]:
        return {CLUSTER_GET: self.get}

    async def get(self, call: Call, request: GetCluster) -> ClusterView:
        """Raises `Unavailable` on a manager that has not received the state yet."""
        cluster = (await self._access.read(call)).cluster()
        if cluster is None:
            raise Unavailable("this manager has not received the swarm's state yet", hint="try again in a moment")
        return ClusterView(cluster=redact.cluster(cluster))
