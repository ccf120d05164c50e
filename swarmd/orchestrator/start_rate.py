"""How fast what failed is started again on one node, so that a thousand failing tasks do not storm.

Read from the records and the time alone: who waits, and who was written within the last second, is the same for every
leader. Counting each write makes a task that started and failed again within a second count once more, which errs on
the slow side, just when a node is in trouble.
"""

from __future__ import annotations

from typing import Final

from swarmd.model import Task
from swarmd.orchestrator.facts import has_ended, is_held, is_wanted
from swarmd.orchestrator.restart import back_off_s
from swarmd.state.transaction import Transaction

RESTARTS_PER_SECOND: Final = 10
"""On one node: about what an engine starts. A node with 100 tasks is back 10 s after all of them failed at once."""


class StartQueue:
    """Whose turn it is among the restarts that are due on a node: who has been due for the longest. Made for one
    transaction; all passes in it share one, or each would give the same room away."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._places: dict[str, dict[str, int]] = {}

    def may_start_at(self, task: Task) -> float:
        """Now, or when to ask again. `task` is held and due. One without a node does not count: the scheduler spreads
        it, and mostly has by then."""
        now = self._tx.now
        if not task.failures or not task.node_id:
            return now
        places = self._places.get(task.node_id)
        if places is None:
            places = self._places[task.node_id] = self._queue(task.node_id)
        place = places.get(task.id, -1)
        return now if place < 0 else now + 1.0 + place // RESTARTS_PER_SECOND

    def _queue(self, node_id: str) -> dict[str, int]:
        """Places of those for whom there is no room now; 0 is the first to get some."""
        now, room = self._tx.now, RESTARTS_PER_SECOND
        due: list[tuple[float, str]] = []
        for task in self._tx.tasks_of_node(node_id, unchecked=True):
            if not task.failures:
                continue
            if not (is_wanted(task) and is_held(task)):
                room -= abs(now - task.meta.updated_at) < 1.0  # a former leader's clock may have been far ahead
            elif not has_ended(task):
                at = task.meta.created_at + back_off_s(task.spec.restart.delay_s, task.failures)
                if at <= now:
                    due.append((at, task.id))
        due.sort()
        return {id: place for place, (_, id) in enumerate(due[max(room, 0) :])}
