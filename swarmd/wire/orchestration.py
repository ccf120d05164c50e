"""What operators ask of orchestration beside changing specs: the previous spec back, other nodes for tasks, and why."""

from __future__ import annotations

import msgspec

from swarmd.model import PlacementFailure, Task
from swarmd.wire.control import ServiceView


class RollbackService(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Give a service its previous spec back. `spec_version`: of the present one as it was read (-1: whatever it is)."""

    id: str
    spec_version: int = -1


class RebalanceService(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Move tasks of a replicated service to where they are spread better, at most `max_moves` (0: all that helps)."""

    id: str
    max_moves: int = 0


class Move(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One task that goes. `to_node_id` is where its successor is expected; the scheduler says where it lands."""

    task_id: str
    slot: int
    from_node_id: str
    to_node_id: str


class RebalanceReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What is moved, or would be; nothing if no move improves anything."""

    service: ServiceView
    moves: tuple[Move, ...] = ()


class NodeVerdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What one node says to a task: which filter turns it away and by how much; no filter: the task would fit now."""

    node_id: str
    node_name: str = ""
    filter: str = ""
    detail: str = ""


class TaskWhy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Why a task is as it is. `reason` is one line.

    `unplaced` is what the scheduler last said of a task without a node. `nodes` is judged at this moment, those that
    would take it first and `nodes_left_out` more of them beyond what one reply shows; empty for a task that has a node.
    """

    task: Task
    reason: str
    unplaced: PlacementFailure | None = None
    nodes: tuple[NodeVerdict, ...] = ()
    nodes_left_out: int = 0


class ServiceWhy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Why a service is not what its spec says: its state in a line, and the tasks that hold it up, those without a node
    first, `tasks_left_out` more beyond what one reply shows. Only the first says what every node says to it."""

    service: ServiceView
    reason: str
    tasks: tuple[TaskWhy, ...] = ()
    tasks_left_out: int = 0
