"""`cluster update` (registered by `commands.cluster`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

import typer

from swarmctl.client import Client
from swarmctl.cluster_flags import ClusterFlags, changed_cluster_spec
from swarmctl.invocation import Invocation
from swarmctl.kinds import CLUSTER
from swarmctl.resolve import find_cluster_view
from swarmctl.show import show_changed
from swarmctl.values import parse_integer
from swarmctl.verbs import verb
from swarmd.errors import Conflict, Invalid
from swarmd.wire.cluster import ClusterView, GetCluster, UpdateCluster
from swarmd.wire.methods import CLUSTER_GET, CLUSTER_UPDATE

EDIT_TRIES_MAX: Final = 3

MakeUpdate = Callable[[ClusterView], UpdateCluster]


def register(app: typer.Typer) -> None:
    """Add it to the verbs of `cluster`."""

    @verb(app, "update")
    def update(
        call: Invocation,
        flags: ClusterFlags,
        cluster: Annotated[str, typer.Argument(help="Its name, id or id prefix.")] = "default",
        *,
        rotate_join_token: Annotated[
            list[str] | None,
            typer.Option("--rotate-join-token", metavar="worker|manager", help="Make a new join token."),
        ] = None,
        rotate_unlock_key: Annotated[
            bool, typer.Option("--rotate-unlock-key", help="Make a new unlock key, while autolock is on.")
        ] = False,
        version: Annotated[
            str | None, typer.Option("--version", metavar="N", help="Only if the cluster is still at this version.")
        ] = None,
    ) -> None:
        """Change the settings that are given, and nothing else."""
        roles = rotate_join_token or []
        if unknown := set(roles) - {"worker", "manager"}:
            raise Invalid(f'--rotate-join-token: "{min(unknown)}" is not understood', hint="worker or manager")
        if flags.is_empty and not roles and not rotate_unlock_key:
            raise Invalid("nothing to change was given", hint="swarmctl cluster update --help")
        expected = None if version is None else parse_integer(version, "--version")
        with call.client() as client:
            before = find_cluster_view(client, cluster)
            after = change_cluster(
                client,
                before,
                lambda view: UpdateCluster(
                    id=view.cluster.id,
                    spec=changed_cluster_spec(view.cluster.spec, flags),
                    version=view.cluster.meta.version if expected is None else expected,
                    rotate_worker_token="worker" in roles,
                    rotate_manager_token="manager" in roles,
                    rotate_unlock_key=rotate_unlock_key,
                ),
                is_version_given=expected is not None,
            )
        show_changed(call, CLUSTER, after)
        _tell_of_the_unlock_key(call, before, after)


def change_cluster(
    client: Client, view: ClusterView, make: MakeUpdate, *, is_version_given: bool = False
) -> ClusterView:
    """Send what `make` makes of the cluster as it is; anew where somebody else changed it in between."""
    for left in reversed(range(EDIT_TRIES_MAX)):
        try:
            return client.change(CLUSTER_UPDATE, make(view))
        except Conflict:
            if is_version_given or not left:
                raise
        view = client.read(CLUSTER_GET, GetCluster())
    raise AssertionError("the last try returns or raises")


def _tell_of_the_unlock_key(call: Invocation, before: ClusterView, after: ClusterView) -> None:
    is_locked = after.cluster.spec.encryption.auto_lock_managers
    if after.cluster.unlock_key.version == before.cluster.unlock_key.version:
        return
    if is_locked:
        call.note(
            "The unlock key is new: every manager will need it after a restart. "
            "Show it, and keep it outside the swarm: swarmctl cluster unlock-key"
        )
    else:
        call.note("Autolock is off: managers unlock themselves from now on.")
