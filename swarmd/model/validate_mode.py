"""The validity of a service's mode: nothing, or `Invalid` with the field (reference orchestration 1.3)."""

from __future__ import annotations

from typing import Final

from swarmd.errors import Invalid
from swarmd.model.checks import check_integer
from swarmd.model.modes import Global, GlobalJob, Replicated, ReplicatedJob, UpdateConfig
from swarmd.model.specs import ServiceSpec

REPLICAS_MAX: Final = 1_000_000

_NO_UPDATE_CONFIG: Final = UpdateConfig()


def check_mode(spec: ServiceSpec) -> None:
    """Raise `Invalid` unless tasks could be kept, or run to their end, so."""
    match spec.mode:
        case Replicated(replicas=replicas):
            check_integer(replicas, "$.mode.replicas", "replicas", maximum=REPLICAS_MAX)
        case ReplicatedJob() as job:
            check_integer(job.total_completions, "$.mode.total_completions", "completions", maximum=REPLICAS_MAX)
            check_integer(
                job.max_concurrent, "$.mode.max_concurrent", "the tasks that run at a time", maximum=REPLICAS_MAX
            )
            _check_job(spec)
        case GlobalJob():
            _check_job(spec)
        case Global():
            pass


def _check_job(spec: ServiceSpec) -> None:
    """A new spec begins a new iteration: there is nothing to update slot by slot, or to roll back."""
    for field, config in (("$.update", spec.update), ("$.rollback", spec.rollback)):
        if config != _NO_UPDATE_CONFIG:
            raise Invalid(
                f"Jobs may not have {'an update' if field == '$.update' else 'a rollback'} config",
                field=field,
                hint="an update of a job begins its next iteration at once",
            )
