"""`service.rebalance`: say which tasks would be moved, or have them moved by turns (reference orchestration 11.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec.structs import replace

from swarmd.errors import FailedPrecondition, Invalid, NotFound
from swarmd.manager.control_api.access import Access
from swarmd.manager.control_api.node_verdicts import verdict
from swarmd.manager.control_api.service_views import present_slots, service_view
from swarmd.model import Node, PlacementStrategy, Rebalancing, Replicated, Service, Task, TaskState
from swarmd.model.checks import check_integer
from swarmd.orchestrator.dirty import outdated_slots
from swarmd.orchestrator.rebalance import plan_moves
from swarmd.orchestrator.update import is_updating
from swarmd.scheduler.nodes import unavailable_reason
from swarmd.state.store import State
from swarmd.state.transaction import Transaction
from swarmd.transport.connection import Call, UnaryHandler
from swarmd.wire.methods import SERVICE_REBALANCE, SERVICE_REBALANCE_PLAN, Method
from swarmd.wire.orchestration import Move, RebalanceReply, RebalanceService

MOVES_MAX: Final = 1_000
"""Tasks that one rebalance moves; what is left to improve then waits for the next."""


class RebalanceHandlers:
    """Serves `service.rebalance` and `service.rebalance_plan`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def handlers(self) -> dict[Method[Any, Any], UnaryHandler]:
        return {SERVICE_REBALANCE: self.rebalance, SERVICE_REBALANCE_PLAN: self.plan}

    async def plan(self, call: Call, request: RebalanceService) -> RebalanceReply:
        """What a rebalance would do now. Raises as `rebalance`."""
        _check(request)
        state = await self._access.read(call)
        service = _required(state.service(request.id), request.id)
        return RebalanceReply(service=service_view(state, service), moves=_moves(state, service, request.max_moves))

    async def rebalance(self, call: Call, request: RebalanceService) -> RebalanceReply:
        """Have it done, by turns as the update settings say. Nothing is written if no move improves anything.

        A retry of a request that took effect is answered without the moves.

        Raises `Invalid`, `NotFound`, `FailedPrecondition` while the service is updated, or for one that is not spread.
        """
        _check(request)
        written = await self._access.write(call, request, lambda tx: _begin(tx, self._access.state, request))
        state = self._access.state
        service = _required(state.service(request.id), request.id)
        return RebalanceReply(service=service_view(state, service), moves=written.result or ())


def _begin(tx: Transaction, state: State, request: RebalanceService) -> tuple[Move, ...]:
    """Nodes and tasks are looked at as they are now: a plan that they outrun is carried out as far as it goes."""
    service = _required(tx.service(request.id), request.id)
    moves = _moves(state, service, request.max_moves)
    if moves:
        ids = tuple([move.task_id for move in moves])
        tx.update(replace(service, rebalancing=Rebalancing(started_at=tx.now, task_ids=ids)))
    return moves


def _moves(state: State, service: Service, max_moves: int) -> tuple[Move, ...]:
    spec, what = service.spec, f"service {service.spec.name}"
    if not isinstance(spec.mode, Replicated):
        raise FailedPrecondition("only replicated services can be rebalanced", object=what)
    if spec.task.placement.strategy is PlacementStrategy.BINPACK:
        raise FailedPrecondition("a service that is packed is not to be spread", object=what, hint="--strategy spread")
    slots = present_slots(state, service)
    if is_updating(service) or outdated_slots([slot for slot in slots if slot.is_occupied], service, state.node):
        raise FailedPrecondition(
            "it is not as its spec says yet: an update places its tasks anew anyway",
            object=what,
            hint=f"swarmctl service inspect {spec.name}",
        )
    held = [task for slot in slots for task in slot.wanted if _holds_a_place(task)]
    nodes = [node for node in state.nodes() if not unavailable_reason(node) or state.tasks_of_node(node.id)]

    def fits(node: Node, task: Task, arriving: Sequence[Task]) -> bool:
        coming = [replace(one, node_id=node.id) for one in arriving]
        return verdict(node, (*state.tasks_of_node(node.id), *coming), task) == ("", "")

    limit = min(max_moves or MOVES_MAX, MOVES_MAX)
    return plan_moves(held, nodes, spec.task.placement, fits, limit=limit)


def _holds_a_place(task: Task) -> bool:
    return TaskState.ASSIGNED <= task.status.state <= TaskState.RUNNING


def _check(request: RebalanceService) -> None:
    if not request.id:
        raise Invalid("a service's id is missing", field="$.id")
    check_integer(request.max_moves, "$.max_moves", "the number of moves")


def _required(service: Service | None, id: str) -> Service:
    if service is None:
        raise NotFound(f"service {id} not found", hint="swarmctl service ls")
    return service
