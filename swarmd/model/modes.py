"""How many tasks a service has, how a new template reaches them, and what became of the last update."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

DEFAULT_MONITOR_S: Final = 5.0
DEFAULT_PROGRESS_TIMEOUT_S: Final = 600.0


class Replicated(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    gc=False,
    tag_field="kind",
    tag="replicated",
):
    """Keep `replicas` tasks running, in slots 1, 2, 3 ..."""

    replicas: int = 1


class Global(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    gc=False,
    tag_field="kind",
    tag="global",
):
    """Keep one task running on every node that the constraints admit. Slots are 0."""


class ReplicatedJob(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    gc=False,
    tag_field="kind",
    tag="replicated_job",
):
    """Run `total_completions` tasks to their end, in slots 1, 2, 3 ..., at most `max_concurrent` of them at a time
    (0: all at once)."""

    max_concurrent: int = 1
    total_completions: int = 1


class GlobalJob(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    gc=False,
    tag_field="kind",
    tag="global_job",
):
    """Run one task to its end on every node that the constraints admit.

    The nodes are those that were there when the iteration began; with `follow_nodes` also those that come later.
    """

    follow_nodes: bool = False


Mode = Replicated | Global | ReplicatedJob | GlobalJob


class FailureAction(IntEnum):
    """What an update does once too many of its new tasks failed."""

    PAUSE = 0
    CONTINUE = 1
    ROLLBACK = 2


class UpdateOrder(IntEnum):
    """Whether a slot's old task goes before the new one starts, or once it runs."""

    STOP_FIRST = 0
    START_FIRST = 1


class UpdateConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """How a new template reaches the slots (SwarmKit `api/types.proto`).

    `parallelism` slots are moved at a time (0: all at once); each new task is to run for `delay_s` before the next slot
    takes its turn. A new task that ends within `monitor_s` of its start, or does not run after `progress_timeout_s` (0:
    no limit), has failed; `failure_action` follows once more than `max_failure_ratio` of the slots failed.
    """

    parallelism: int = 1
    delay_s: float = 0.0
    failure_action: FailureAction = FailureAction.PAUSE
    monitor_s: float = DEFAULT_MONITOR_S
    max_failure_ratio: float = 0.0
    order: UpdateOrder = UpdateOrder.STOP_FIRST
    progress_timeout_s: float = DEFAULT_PROGRESS_TIMEOUT_S


class UpdateState(IntEnum):
    """Where a service's last update stands (SwarmKit `UpdateStatus`). UNKNOWN is never stored."""

    UNKNOWN = 0
    UPDATING = 1
    PAUSED = 2
    COMPLETED = 3
    ROLLBACK_STARTED = 4
    ROLLBACK_PAUSED = 5
    ROLLBACK_COMPLETED = 6


class UpdateStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """What became of a service's last update. Instants are epoch seconds by the leaders' clocks, 0: not yet.

    `total` is how many slots the run had to move, `failed` are those whose new task failed: slot numbers, or nodes' ids
    in a global service. Kept here so that the next leader goes on counting, whatever the reaper deletes.
    """

    state: UpdateState = UpdateState.UNKNOWN
    started_at: float = 0.0
    completed_at: float = 0.0
    message: str = ""
    total: int = 0
    failed: tuple[str, ...] = ()


class JobStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Which iteration of a job runs, and since when (epoch seconds)."""

    job_iteration: int = 0
    last_execution: float = 0.0


class Rebalancing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Tasks that are to be moved elsewhere, by turns as in an update; done when none of them is wanted any more."""

    started_at: float = 0.0
    task_ids: tuple[str, ...] = ()


class DependencyCondition(IntEnum):
    """What another service must have reached."""

    STARTED = 0
    HEALTHY = 1
    COMPLETED = 2


class ServiceDependency(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """A service (by name) that must have come so far before the first tasks of this one are placed."""

    service: str
    condition: DependencyCondition = DependencyCondition.STARTED
