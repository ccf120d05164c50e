"""How a service's spec changes: made, updated, rolled back; what becomes of its versions, its update and its job.

Each spec has a version of its own, a rollback's too: no two ever bear the same (reference orchestration 2.7, 3.3).
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from swarmd.errors import FailedPrecondition
from swarmd.model import GlobalJob, JobStatus, ReplicatedJob, Service, ServiceSpec, UpdateState, UpdateStatus
from swarmd.orchestrator.update import PAUSED

FIRST_SPEC_VERSION: Final = 1
MANUAL_MESSAGE: Final = "manually requested rollback"


def is_job(spec: ServiceSpec) -> bool:
    """Whether its tasks run to their end."""
    return isinstance(spec.mode, ReplicatedJob | GlobalJob)


def created(id: str, spec: ServiceSpec, now: float) -> Service:
    """A new service. A job's first iteration begins."""
    job_status = JobStatus(last_execution=now) if is_job(spec) else None
    return Service(id=id, spec=spec, spec_version=FIRST_SPEC_VERSION, job_status=job_status)


def updated(service: Service, spec: ServiceSpec, now: float) -> Service:
    """The service with a new spec; unchanged if it is the one that it has.

    A change of the template begins a new update, whatever became of the last. An update under way goes on if only
    its settings or the number of replicas change; a paused one goes on only if more than that number and the labels
    changes. A job begins its next iteration.
    """
    if spec == service.spec:
        return service
    job_status = service.job_status
    if is_job(spec):
        iteration = job_status.job_iteration + 1 if job_status is not None else 0
        job_status = JobStatus(job_iteration=iteration, last_execution=now)
    return replace(
        service,
        spec=spec,
        spec_version=service.spec_version + 1,
        previous_spec=service.spec,
        previous_spec_version=service.spec_version,
        update_status=service.update_status if _keeps_status(service, spec) else None,
        job_status=job_status,
        rebalancing=None,
    )


def manual_rollback(service: Service, now: float) -> Service:
    """The service with its present and its previous spec exchanged, so that two rollbacks lead back.

    Raises `FailedPrecondition` if there is no previous spec.
    """
    if service.previous_spec is None:
        raise FailedPrecondition(
            f"service {service.spec.name} does not have a previous spec",
            object=f"service {service.spec.name}",
            hint="there is one after the first update",
        )
    back = updated(service, service.previous_spec, now)
    if is_job(back.spec):
        return back
    return replace(
        back, update_status=UpdateStatus(state=UpdateState.ROLLBACK_STARTED, started_at=now, message=MANUAL_MESSAGE)
    )


def automatic_rollback(service: Service, status: UpdateStatus) -> Service:
    """The service with its previous spec, which is the previous one no more: what failed is not to be returned to."""
    assert service.previous_spec is not None
    return replace(
        service,
        spec=service.previous_spec,
        spec_version=service.spec_version + 1,
        previous_spec=None,
        previous_spec_version=0,
        update_status=status,
        rebalancing=None,
    )


def _keeps_status(service: Service, spec: ServiceSpec) -> bool:
    status, old = service.update_status, service.spec
    if status is None or (old.task, old.endpoint) != (spec.task, spec.endpoint):
        return False
    return status.state not in PAUSED or (old.update, old.rollback) == (spec.update, spec.rollback)
