"""Changing a node's spec: read, change, write at the version read. Also `node update` (see `commands.node`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

import typer
from msgspec.structs import replace

from swarmctl.client import Client
from swarmctl.flags.given import items_of
from swarmctl.invocation import Invocation
from swarmctl.kinds import NODE
from swarmctl.resolve import find_node, node_name
from swarmctl.show import show_changed
from swarmctl.values import parse_choice, parse_pairs
from swarmctl.verbs import verb
from swarmd.errors import Conflict, Invalid
from swarmd.model import Availability, NodeSpec
from swarmd.wire.control import GetObject, NodeView, UpdateNode
from swarmd.wire.methods import NODE_GET, NODE_UPDATE

EDIT_TRIES_MAX: Final = 3
AVAILABILITIES: Final = {one.name.lower(): one for one in Availability}


def edit_node(
    client: Client, reference: str, wanted: Callable[[NodeSpec], NodeSpec], *, force: bool = False
) -> tuple[NodeView, bool]:
    """Change a node's spec, and whether that was needed. Read again when something else changed the node meanwhile."""
    view = find_node(client, reference)
    for left in reversed(range(EDIT_TRIES_MAX)):
        node = view.node
        spec = wanted(node.spec)
        if spec == node.spec:
            return view, False
        try:
            request = UpdateNode(id=node.id, spec=spec, version=node.meta.version, force=force)
            return client.change(NODE_UPDATE, request), True
        except Conflict:
            if not left:
                raise
        view = client.read(NODE_GET, GetObject(id=node.id))
    raise AssertionError("the last try returns or raises")


def register(app: typer.Typer) -> None:
    """Add `update` to the verbs of `node`."""

    @verb(app, "update")
    def update(
        call: Invocation,
        nodes: Annotated[list[str], typer.Argument(help="Names, hostnames, ids or id prefixes; self; leader.")],
        *,
        label: Annotated[
            list[str] | None, typer.Option("--label", "-l", metavar="KEY=VALUE", help="All labels it is to have.")
        ] = None,
        label_add: Annotated[
            list[str] | None, typer.Option("--label-add", metavar="KEY=VALUE", help="One label more, or another value.")
        ] = None,
        label_rm: Annotated[list[str] | None, typer.Option("--label-rm", metavar="KEY", help="One label less.")] = None,
        availability: Annotated[
            str | None, typer.Option("--availability", metavar="WORD", help="active, pause or drain.")
        ] = None,
    ) -> int:
        """Change labels and availability, and nothing else. Tasks whose constraints no longer hold move elsewhere."""
        if not (label or label_add or label_rm or availability is not None):
            raise Invalid("nothing to change was given", hint="swarmctl node update --help")
        whole = parse_pairs(items_of(label), "--label") if label else None
        added = parse_pairs(label_add or (), "--label-add")
        gone = {text.strip() for text in label_rm or ()}
        is_to_be = None if availability is None else parse_choice(availability, AVAILABILITIES, "--availability")

        def wanted(spec: NodeSpec) -> NodeSpec:
            labels = spec.labels if whole is None else whole
            kept = {key: value for key, value in labels.items() if key not in gone}
            return replace(
                spec,
                labels=kept | added,
                availability=spec.availability if is_to_be is None else is_to_be,
            )

        with call.client() as client:

            def change(reference: str) -> None:
                view, changed = edit_node(client, reference, wanted)
                if not changed:
                    call.note(f"node {node_name(view.node)} is so already: no changes")
                show_changed(call, NODE, view)

            return call.for_each(nodes, change)
