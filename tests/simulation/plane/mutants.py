"""The control plane with one rule broken each: what the simulation must find, or its silence says nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from swarmd.manager.loops import orchestrator as orchestrator_loop
from swarmd.orchestrator import history, jobs, slot_pass
from swarmd.scheduler.nodes import NodeTable
from swarmd.scheduler.waiting import WaitingTasks


@dataclass(frozen=True)
class Mutant:
    """What is broken, and the lives of which one must notice."""

    name: str
    seeds: range
    broken: Callable[[], AbstractContextManager[Any]]


def _replaces(owner: Any, name: str, by: Any) -> Callable[[], AbstractContextManager[Any]]:
    return lambda: patch.object(owner, name, by)


def _released_at_once(created_at: float, earliest: float, others: object, find_node: object) -> float:
    return earliest


def _nothing(*args: Any, **kwargs: Any) -> None:
    return None


MUTANTS = (
    Mutant("replacements do not wait", range(30), _replaces(slot_pass, "release_at", _released_at_once)),
    Mutant("drained nodes keep their tasks", range(30), _replaces(slot_pass, "evicts", lambda node: False)),
    Mutant("records of running tasks are reaped", range(30), _replaces(history, "has_ended", lambda task: True)),
    Mutant("what ended tasks held is not given back", range(30), _replaces(NodeTable, "refund", _nothing)),
    Mutant("tasks charge nothing", range(30), _replaces(NodeTable, "charge", _nothing)),
    Mutant("parked tasks are forgotten", range(35, 150), _replaces(WaitingTasks, "unpark_all", _nothing)),
    Mutant(
        "changes of nodes are not heard",
        range(30),
        _replaces(orchestrator_loop, "_condition", lambda node: (True, True)),
    ),
    Mutant(
        "global services do not follow nodes", range(30), _replaces(orchestrator_loop, "_qualities", lambda node: ())
    ),
    Mutant("what completed is run again", range(30), _replaces(jobs, "has_completed", lambda task: False)),
    Mutant("old iterations stay", range(60), _replaces(jobs, "remove_old", _nothing)),
    Mutant("changes of tasks are not heard", range(30), _replaces(orchestrator_loop, "_matters", lambda event: False)),
)
