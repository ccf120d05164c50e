"""`cluster ls`, `cluster inspect`; the other verbs are in `cluster_update`, `cluster_ca`, `join_token`, `unlocking`."""

from __future__ import annotations

from typing import Annotated

import typer

from swarmctl.commands import cluster_ca, cluster_update, join_token, unlocking
from swarmctl.invocation import Invocation
from swarmctl.kinds import CLUSTER
from swarmctl.render.cluster import cluster_list, cluster_summary
from swarmctl.resolve import find_cluster_view
from swarmctl.show import show_list, show_one
from swarmctl.verbs import group, nest, verb
from swarmd.wire.cluster import GetCluster
from swarmd.wire.methods import CLUSTER_GET

app = group("cluster", "The swarm itself: settings and join tokens.")
cluster_update.register(app)
unlocking.register(app)
join_token.register(app)
nest(app, "ca", cluster_ca.app)


@verb(app, "ls", "list")
def ls(call: Invocation) -> None:
    """List the clusters: there is one."""
    with call.client() as client:
        clusters = [client.read(CLUSTER_GET, GetCluster())]
    show_list(call, CLUSTER, clusters, lambda wide: cluster_list(clusters))


@verb(app, "inspect")
def inspect(
    call: Invocation, cluster: Annotated[str, typer.Argument(help="Its name, id or id prefix.")] = "default"
) -> None:
    """Show the settings and the join tokens."""
    with call.client() as client:
        found = find_cluster_view(client, cluster)
    show_one(call, CLUSTER, found, lambda: cluster_summary(found, call.environment.now()))
