"""`cluster join-token` (registered by `commands.cluster`): what to type on a machine that shall join."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer

from swarmctl.client import Client
from swarmctl.commands.cluster_update import change_cluster
from swarmctl.invocation import Invocation
from swarmctl.show import Kind, show_one
from swarmctl.verbs import verb
from swarmd.errors import Invalid
from swarmd.wire.cluster import ClusterView, GetCluster, UpdateCluster
from swarmd.wire.control import ListNodes
from swarmd.wire.methods import CLUSTER_GET, NODE_LIST

ROLES = ("worker", "manager")


class Joining(msgspec.Struct, frozen=True, kw_only=True):
    """What a new machine needs."""

    role: str
    token: str
    addresses: tuple[str, ...]


def register(app: typer.Typer) -> None:
    """Add it to the verbs of `cluster`."""

    @verb(app, "join-token")
    def join_token(
        call: Invocation,
        role: Annotated[str, typer.Argument(metavar="worker|manager", help="What the new node shall be.")],
        *,
        rotate: Annotated[
            bool, typer.Option("--rotate", help="Make a new token first; the old one lets nobody in any more.")
        ] = False,
    ) -> None:
        """Show the command that makes a machine join as a worker or a manager; with -q the token alone."""
        if role not in ROLES:
            raise Invalid(f'"{role}" is no role of a node', hint="worker or manager")
        with call.client() as client:
            view = client.read(CLUSTER_GET, GetCluster())
            if rotate:
                view = _rotate(client, view, role)
            joining = Joining(role=role, token=_token_of(view, role), addresses=_addresses(client))
        if rotate:
            call.note(f"The {role} token is new: the old one lets nobody in any more. Nodes that joined with it stay.")
        show_one(call, _JOINING, joining, lambda: _in_words(joining))


_JOINING: Kind[Joining] = Kind(
    lambda joining: joining.token,
    lambda joining: joining.token,
    lambda joining: {"role": joining.role, "token": joining.token, "addresses": list(joining.addresses)},
)


def _rotate(client: Client, view: ClusterView, role: str) -> ClusterView:
    return change_cluster(
        client,
        view,
        lambda view: UpdateCluster(
            id=view.cluster.id,
            spec=view.cluster.spec,
            version=view.cluster.meta.version,
            rotate_worker_token=role == "worker",
            rotate_manager_token=role == "manager",
        ),
    )


def _token_of(view: ClusterView, role: str) -> str:
    tokens = view.cluster.root_ca.join_tokens
    return tokens.manager if role == "manager" else tokens.worker


def _addresses(client: Client) -> tuple[str, ...]:
    """Where managers listen, the leader's first: it answers without a hop."""
    managers = [view.manager for view in client.read(NODE_LIST, ListNodes()).nodes if view.manager is not None]
    managers.sort(key=lambda manager: not manager.is_leader)
    return tuple(dict.fromkeys(address for manager in managers for address in manager.addresses))


def _in_words(joining: Joining) -> str:
    first, others = joining.addresses[:1], joining.addresses[1:]
    return (
        f"To add a {joining.role} to this swarm, run the following command on it:\n\n"
        f"    swarmd --join-addr {first[0] if first else 'MANAGER:PORT'} --join-token {joining.token}\n\n"
    ) + _others(others)


def _others(addresses: Sequence[str]) -> str:
    if not addresses:
        return ""
    return f"Any other manager will do as well: {', '.join(addresses)}\n"
