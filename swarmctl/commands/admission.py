"""`node accept`, `node reject`: nodes that asked to join without a token (registered by `commands.node`)."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from swarmctl.client import Client
from swarmctl.invocation import Invocation
from swarmctl.kinds import NODE
from swarmctl.render.text import one_line
from swarmctl.resolve import find_node, node_name
from swarmctl.show import show_changed
from swarmctl.verbs import verb
from swarmd.errors import FailedPrecondition, Invalid, NotFound
from swarmd.model import Membership
from swarmd.wire.control import AcceptNode, ListNodes, NodeView, RejectNode
from swarmd.wire.methods import NODE_ACCEPT, NODE_LIST, NODE_REJECT

CODE_CHARACTERS: Final = 28


def is_code(text: str) -> bool:
    """Whether `text` has a join code's length; whether it is one, a waiting node's code tells."""
    return len(_plain(text)) == CODE_CHARACTERS and "-" in text


def register(app: typer.Typer) -> None:
    """Add both to the verbs of `node`."""

    @verb(app, "accept")
    def accept(
        call: Invocation,
        nodes: Annotated[list[str], typer.Argument(help="Join codes; or one waiting node, with --code.")],
        *,
        code: Annotated[
            str | None, typer.Option("--code", metavar="CODE", help="The code that the waiting node itself shows.")
        ] = None,
    ) -> int:
        """Let nodes in that wait for it."""
        if code is not None and len(nodes) > 1:
            raise Invalid("--code is one node's", hint="or give several codes: swarmctl node accept CODE CODE")
        with call.client() as client:

            def admit(reference: str) -> None:
                view = find_waiting(client, reference)
                shown = reference if is_code(reference) else code or _asked(call, view)
                show_changed(call, NODE, client.change(NODE_ACCEPT, AcceptNode(id=view.node.id, join_code=shown)))

            return call.for_each(nodes, admit)

    @verb(app, "reject")
    def reject(
        call: Invocation,
        nodes: Annotated[list[str], typer.Argument(help="Join codes, or names, ids or id prefixes of waiting nodes.")],
    ) -> int:
        """Turn nodes away that wait to be let in."""
        with call.client() as client:

            def turn_away(reference: str) -> None:
                view = find_waiting(client, reference)
                call.line(client.change(NODE_REJECT, RejectNode(id=view.node.id)).id)

            return call.for_each(nodes, turn_away)


def find_waiting(client: Client, reference: str) -> NodeView:
    """The node that this code, name or id means. Raises `NotFound`, `Invalid`."""
    if not is_code(reference):
        return find_node(client, reference)
    views = client.read(NODE_LIST, ListNodes()).nodes
    for view in views:
        if view.join_code and _plain(view.join_code) == _plain(reference):
            return view
    waiting = sum(view.node.spec.membership is Membership.PENDING for view in views)
    raise NotFound(
        f"no waiting node has the join code {one_line(reference)}",
        hint=f"{waiting} wait: swarmctl node ls. If yours is among them, somebody may stand between it and this swarm",
    )


def _asked(call: Invocation, view: NodeView) -> str:
    """The node's code, once somebody at a terminal says that the node shows the same."""
    if view.node.spec.membership is not Membership.PENDING:
        raise FailedPrecondition(f"node {node_name(view.node)} does not wait: it is in", hint="swarmctl node ls")
    if not call.environment.is_terminal():
        raise Invalid(
            "--code is missing", hint="the waiting node shows it in its log: swarmctl node accept NODE --code CODE"
        )
    where = view.node.status.addr or "an unknown address"
    call.environment.err.write(
        f"node {one_line(node_name(view.node))} at {one_line(where)} must show this code:\n  {view.join_code}\n"
        "Does it? [y/N] "
    )
    call.environment.err.flush()
    if call.environment.read_line().strip().lower() not in ("y", "yes"):
        raise FailedPrecondition("not accepted", hint="to turn it away: swarmctl node reject")
    return view.join_code


def _plain(text: str) -> str:
    return "".join(text.replace("-", "").split()).lower()
