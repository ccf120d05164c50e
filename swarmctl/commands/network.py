"""`network create`, `ls`, `inspect`, `rm`."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from swarmctl.invocation import Invocation
from swarmctl.kinds import NETWORK
from swarmctl.network_flags import NetworkFlags, network_spec
from swarmctl.payload_flags import Filters, parse_list_filters
from swarmctl.render.networks import network_list, network_summary
from swarmctl.resolve import find_network
from swarmctl.show import show_changed, show_list, show_one
from swarmctl.verbs import group, verb
from swarmd.wire.control import RemoveObject
from swarmd.wire.methods import NETWORK_CREATE, NETWORK_LIST, NETWORK_REMOVE
from swarmd.wire.networks import CreateNetwork

app = group("network", "Networks that span nodes: their subnets and addresses.")

NOT_CARRIED: Final = "networks are given subnets and numbers; nodes do not carry traffic between each other yet"


@verb(app, "create")
def create(
    call: Invocation,
    name: Annotated[str, typer.Argument(help="Letters and digits, with - and _ between them.")],
    flags: NetworkFlags,
) -> None:
    """Create a network. Nodes do not carry its traffic yet: no service can be in it."""
    spec = network_spec(name, flags)
    with call.client() as client:
        view = client.change(NETWORK_CREATE, CreateNetwork(spec=spec))
    call.note(NOT_CARRIED)
    show_changed(call, NETWORK, view)


@verb(app, "ls", "list")
def ls(call: Invocation, *, filter: Filters = None) -> None:
    """List networks by name."""
    request = parse_list_filters(filter or ())
    with call.client() as client:
        views = client.read(NETWORK_LIST, request).networks
    show_list(call, NETWORK, views, lambda wide: network_list(views, wide=wide))


@verb(app, "inspect")
def inspect(call: Invocation, network: Annotated[str, typer.Argument(help="Its name, id or id prefix.")]) -> None:
    """Show a network, and how many of its addresses are in use."""
    with call.client() as client:
        view = find_network(client, network)
    show_one(call, NETWORK, view, lambda: network_summary(view))


@verb(app, "rm", "remove")
def rm(call: Invocation, networks: Annotated[list[str], typer.Argument(help="Names, ids or id prefixes.")]) -> int:
    """Remove networks that no service and no running task is in."""
    with call.client() as client:

        def remove(reference: str) -> None:
            network = find_network(client, reference).network
            client.change(NETWORK_REMOVE, RemoveObject(id=network.id))
            call.line(network.id)

        return call.for_each(networks, remove)
