"""Moving the tasks of a rebalance, by turns as in an update. Which tasks was decided when it was asked for."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from swarmd.model import Rebalancing, Service, Task
from swarmd.orchestrator.facts import ended_by_itself
from swarmd.orchestrator.slots import Slot
from swarmd.orchestrator.update import Turn, next_turn, settled_at


class Moves(msgspec.Struct, frozen=True, gc=False):
    """What a rebalance does next; without `rebalancing` it is over."""

    rebalancing: Rebalancing | None
    turn: Turn = Turn()


def moves_of(slots: Sequence[Slot], service: Service, now: float) -> Moves:
    """Whose turn it is. A moved task's successor that ends by itself ends the rebalance: things were better before."""
    rebalancing = service.rebalancing
    if rebalancing is None:
        return Moves(None)
    ids = frozenset(rebalancing.task_ids)
    queue: list[Slot] = []
    moved: list[Slot] = []
    is_over = True
    for slot in slots:
        is_over = is_over and not any(task.id in ids for task in slot.wanted)
        task = slot.representative
        if task is not None and task.id in ids and task in slot.wanted:
            queue.append(slot)
        elif any(other.id in ids for other in slot.tasks):
            if _failed_since(slot, ids):
                return Moves(None)
            moved.append(slot)
    config = service.spec.update
    end_at = max((settled_at(slot, config.delay_s) for slot in moved), default=0.0)
    if is_over and end_at <= now:
        return Moves(None)
    turn = next_turn(queue, moved, frozenset(), service, now)
    if not queue and end_at < float("inf"):
        turn = msgspec.structs.replace(turn, wake_at=end_at)
    return Moves(rebalancing, turn)


def _failed_since(slot: Slot, ids: frozenset[str]) -> bool:
    moved: Task | None = None
    for task in slot.tasks:
        if task.id in ids:
            moved = task
        elif moved is not None and ended_by_itself(task):
            return True
    return False
