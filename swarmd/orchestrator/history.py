"""Which task records are deleted (reference orchestration 6.1, raft-store-node 5.5)."""

from __future__ import annotations

from collections.abc import Iterable

from swarmd.model import Service, Task, TaskState
from swarmd.model.specs import DEFAULT_TASK_HISTORY
from swarmd.orchestrator.facts import ended_by_itself, has_ended, is_wanted, never_runs, reported_at
from swarmd.orchestrator.global_services import is_global
from swarmd.orchestrator.revision import is_job
from swarmd.orchestrator.slots import Slot, slots_by_node, slots_of
from swarmd.orchestrator.update import is_updating
from swarmd.state.batch import CHANGES_MAX
from swarmd.state.command import Table
from swarmd.state.transaction import Transaction


def reap(tx: Transaction, service_id: str) -> bool:
    """Delete task records: wanted REMOVE and stopped (or never run), and finished ones beyond the history limit.

    At most `CHANGES_MAX` at a time; returns whether more are left. A record that still speaks for its slot is kept
    whatever the limit: the last of a slot that is not to be restarted, and the predecessor of a task that has not come
    up yet, which its restart delay is reckoned from; while the service is updated, also that of one which has: it tells
    that the slot was moved.
    """
    service = tx.service(service_id, unchecked=True)
    doomed: list[Task] = []
    tasks = tx.tasks_of_service(service_id, unchecked=True)
    is_by_node = service is not None and is_global(service)
    slots: Iterable[Slot] = slots_by_node(tasks).values() if is_by_node else slots_of(tasks).values()
    for slot in slots:
        doomed += [task for task in slot.leaving if has_ended(task) or never_runs(task)]
        if service is not None:
            doomed += excess(slot, service, _limit(tx, service))
    for task in doomed[:CHANGES_MAX]:
        tx.remove(Table.TASK, task.id)
    return len(doomed) > CHANGES_MAX


def is_stray(task: Task) -> bool:
    """Whether the task belongs to no service and is lost with its node: nobody will ask for it again."""
    return not task.service_id and task.status.state is TaskState.ORPHANED


def reap_stray(tx: Transaction, task_id: str) -> None:
    """Delete the record of such a task."""
    task = tx.task(task_id, unchecked=True)
    if task is not None and is_stray(task):
        tx.remove(Table.TASK, task_id)


def excess(slot: Slot, service: Service, limit: int) -> list[Task]:
    """The slot's finished records beyond `limit` records in all (negative keeps all), oldest first.

    Ends that count as attempts of the present template go last: the restart policy needs them. A job's completed tasks
    stay as long as its iteration: they are how many it has completed.
    """
    surplus = len(slot.tasks) - limit
    if limit < 0 or surplus <= 0:
        return []
    spokesman, counts_completions = _spokesman(slot, service), is_job(service.spec)
    finished = [
        task
        for task in slot.tasks
        if not is_wanted(task)
        and (has_ended(task) or never_runs(task))
        and task is not spokesman
        and not (counts_completions and task.status.state is TaskState.COMPLETE)
    ]
    template = service.spec.task
    finished.sort(key=lambda task: (ended_by_itself(task) and task.spec == template, reported_at(task)))
    return finished[:surplus]


def _limit(tx: Transaction, service: Service) -> int:
    max_attempts = service.spec.task.restart.max_attempts
    if max_attempts > 0:
        return max_attempts + 1
    cluster = tx.cluster(unchecked=True)
    return cluster.spec.orchestration.task_history_retention_limit if cluster is not None else DEFAULT_TASK_HISTORY


def _spokesman(slot: Slot, service: Service) -> Task | None:
    wanted = slot.wanted
    if not wanted:
        return slot.tasks[-1]
    if not is_updating(service) and wanted[-1].status.state >= TaskState.RUNNING and not has_ended(wanted[-1]):
        return None
    earlier = slot.earlier_than(wanted[-1])
    return earlier[-1] if earlier else None
