"""Whether what a service depends on exists, and does not wait for the service itself (reference orchestration 11.2)."""

from __future__ import annotations

from typing import Final

from swarmd.errors import FailedPrecondition, Invalid, NotFound
from swarmd.model import ServiceSpec
from swarmd.state.keys import fold
from swarmd.state.transaction import Transaction

DEPTH_MAX: Final = 1_000
"""Services looked at for a circle."""


def check_dependencies(tx: Transaction, spec: ServiceSpec) -> None:
    """Raise `NotFound` for a service that there is not, `Invalid` for the service itself, `FailedPrecondition` for a
    circle, in which none would ever start."""
    for position, dependency in enumerate(spec.depends_on):
        field = f"$.depends_on[{position}].service"
        if fold(dependency.service) == fold(spec.name):
            raise Invalid("a service cannot depend on itself", field=field)
        if tx.service_by_name(dependency.service) is None:
            raise NotFound(
                f'there is no service named "{dependency.service}" to depend on',
                field=field,
                hint="create it first, or leave it out",
            )
        path = _path(tx, dependency.service, spec.name)
        if path:
            raise FailedPrecondition(
                f"services would wait for each other: {' -> '.join((spec.name, *path))}", field=field
            )


def _path(tx: Transaction, start: str, goal: str) -> tuple[str, ...]:
    """How `start` comes to depend on `goal`; empty if it does not."""
    ways: dict[str, tuple[str, ...]] = {fold(start): (start,)}
    queue = [start]
    while queue and len(ways) <= DEPTH_MAX:
        name = queue.pop(0)
        service = tx.service_by_name(name)
        for dependency in service.spec.depends_on if service is not None else ():
            way = (*ways[fold(name)], dependency.service)
            if fold(dependency.service) == fold(goal):
                return way
            if fold(dependency.service) not in ways:
                ways[fold(dependency.service)] = way
                queue.append(dependency.service)
    return ()
