"""`service rebalance` (registered by `commands.service`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import typer

from swarmctl.client import Client
from swarmctl.convergence import service_progress
from swarmctl.invocation import Invocation
from swarmctl.render.layout import table
from swarmctl.render.plain import plain
from swarmctl.resolve import Names, find_service
from swarmctl.show import Kind, show_one
from swarmctl.values import parse_integer
from swarmctl.verbs import verb
from swarmctl.wait import Waiter, WaitOptions
from swarmd.wire.methods import SERVICE_REBALANCE, SERVICE_REBALANCE_PLAN
from swarmd.wire.orchestration import Move, RebalanceReply, RebalanceService

PLAN: Final[Kind[RebalanceReply]] = Kind(
    lambda reply: reply.service.service.id,
    lambda reply: reply.service.service.spec.name,
    lambda reply: {"service_id": reply.service.service.id, "moves": plain(reply.moves)},
)


def register(app: typer.Typer) -> None:
    """Add it to the verbs of `service`."""

    @verb(app, "rebalance")
    def rebalance(
        call: Invocation,
        service: Annotated[str, typer.Argument(help="Its name, id or id prefix.")],
        waiting: WaitOptions,
        *,
        plan: Annotated[bool, typer.Option("--plan", help="Only say what would be moved.")] = False,
        max_moves: Annotated[
            str | None, typer.Option("--max-moves", metavar="N", help="Tasks moved at most (default: all that helps).")
        ] = None,
    ) -> None:
        """Spread a service's tasks anew, by turns as its update settings say: for nodes that came or came back."""
        waiter = Waiter(call, waiting)
        limit = 0 if max_moves is None else parse_integer(max_moves, "--max-moves")
        with call.client() as client:
            view = find_service(client, service)
            request = RebalanceService(id=view.service.id, max_moves=limit)
            if plan:
                reply = client.read(SERVICE_REBALANCE_PLAN, request)
            else:
                reply = client.change(SERVICE_REBALANCE, request)
            names = Names(client, no_resolve=call.no_resolve)
            show_one(call, PLAN, reply, lambda: _table(view.service.spec.name, reply.moves, names))
            is_begun = reply.service.service.rebalancing is not None
            if not plan and not reply.moves and not is_begun:
                call.note(f"service {view.service.spec.name} is spread already: no moves")
            if not plan:
                _wait(client, reply, waiter)


def _table(service: str, moves: Sequence[Move], names: Names) -> str:
    rows = [
        (f"{service}.{move.slot}", move.task_id, names.node(move.from_node_id), names.node(move.to_node_id))
        for move in moves
    ]
    return table(("Task", "ID", "From", "To"), rows)


def _wait(client: Client, reply: RebalanceReply, waiter: Waiter) -> None:
    id, version = reply.service.service.id, reply.service.service.spec_version
    name = reply.service.service.spec.name
    waiter.until(client, f"service {name}", lambda client: service_progress(client, id, version))
