"""Tasks on nodes that stay DOWN are given up after a day (reference orchestration 6.2; SwarmKit
`dispatcher.defaultNodeDownPeriod`)."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from swarmd.model import NodeState, TaskState
from swarmd.state.batch import CHANGES_MAX
from swarmd.state.transaction import Transaction

ORPHANED_AFTER_S: Final = 24 * 3600.0
ORPHANED_MESSAGE: Final = "the node of this task has been down for a day"


def give_up_tasks(tx: Transaction, node_id: str) -> float | None:
    """Make the node's unfinished tasks ORPHANED once it has been DOWN for `ORPHANED_AFTER_S`, which frees what they
    hold. Returns when to look again, or None.

    The time is reckoned from the last write of the node's record, which is when it went DOWN or later (an operator's
    change of its labels, say): the next leader reckons the same, and nothing is ever given up too early.
    """
    node = tx.node(node_id, unchecked=True)
    if node is None or node.status.state is not NodeState.DOWN:
        return None
    tasks = [
        task
        for task in tx.tasks_of_node(node_id, unchecked=True)
        if TaskState.ASSIGNED <= task.status.state <= TaskState.RUNNING
    ]
    if not tasks:
        return None
    due = node.meta.updated_at + ORPHANED_AFTER_S
    if tx.now < due:
        return due
    tx.node(node_id)  # recorded: what follows relies on it
    for task in tasks[:CHANGES_MAX]:
        status = replace(task.status, state=TaskState.ORPHANED, at=tx.now, message=ORPHANED_MESSAGE, err="")
        tx.report("", task.id, status)
    return tx.now if len(tasks) > CHANGES_MAX else None
