"""Whether what a service refers to is there, and is what it says (reference api-and-cli 1.5, references).

What is read is claimed: of a removal of a secret and the creation of a service that refers to it, one fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from swarmd.errors import Invalid
from swarmd.manager.control_api.payloads import is_internal
from swarmd.model import Config, Secret, ServiceSpec
from swarmd.model.quote import quote
from swarmd.state.transaction import Transaction

Named = tuple[str, str]
"""An id, and the name that goes with it."""


def require_referenced(tx: Transaction, spec: ServiceSpec) -> None:
    """Raise `Invalid` naming every secret, else every config, that is not there or has another name."""
    container = spec.task.container
    secrets = [(reference.secret_id, reference.secret_name) for reference in container.secrets]
    configs = [(reference.config_id, reference.config_name) for reference in container.configs]
    for noun, problems in (("secret", _problems(tx, Secret, secrets)), ("config", _problems(tx, Config, configs))):
        if told := "; ".join(dict.fromkeys(problems)):
            raise Invalid(
                f"{noun}s that are not there as the service names them: {told}",
                field=f"$.task.container.{noun}s",
                hint=f"swarmctl {noun} ls",
            )


def check_given_to_tasks(spec: ServiceSpec) -> None:
    """Raise `Invalid` for what would be stored and not reach any task yet."""
    container = spec.task.container
    for what, references in (("secrets", container.secrets), ("configs", container.configs)):
        if references:
            raise Invalid(
                f"{what} cannot be given to tasks yet", field=f"$.task.container.{what}", hint="leave them out"
            )


def _problems(tx: Transaction, type_: type[Secret] | type[Config], references: Iterable[Named]) -> Iterator[str]:
    for id, name in references:
        stored: Secret | Config | None = tx.get(type_, id)
        if stored is None or is_internal(stored):
            yield f"{quote(name)} ({quote(id)})"
        elif stored.spec.name != name:
            yield f"{quote(name)} ({quote(id)} is named {quote(stored.spec.name)})"
