"""What secrets and configs have in common: how they are listed, what of them may change, when they may go.

Sources: reference api-and-cli 1.8, security 7.1; SwarmKit `manager/controlapi/{secret,config}.go`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

from swarmd.errors import AlreadyExists, Conflict, FailedPrecondition, Invalid, NotFound, Unimplemented
from swarmd.manager.control_api.filters import has_name, has_prefix
from swarmd.model import Config, ConfigSpec, Network, Secret, SecretSpec, Service, Task, TaskState
from swarmd.state.keys import fold
from swarmd.state.selectors import (
    All,
    By,
    ByIdPrefix,
    ByName,
    ByNamePrefix,
    ByReferencedConfig,
    ByReferencedSecret,
    Or,
)
from swarmd.state.store import State
from swarmd.state.transaction import Transaction
from swarmd.wire.payloads import ListPayloads

P = TypeVar("P", Secret, Config)
L = TypeVar("L", Secret, Config, Network)

USERS_SHOWN_MAX: Final = 10
"""Services that a refused removal names."""


# -- lists -------------------------------------------------------------------------------------------------------------
def listed(state: State, type_: type[L], request: ListPayloads) -> list[L]:
    """Those that match, by name whatever the case; none that the swarm made for itself."""
    labels = [text.partition("=") for text in request.labels]
    if any(not key for key, _, _ in labels):
        raise Invalid("a label's key is missing", field="$.labels", hint="KEY or KEY=VALUE")
    found = [
        payload
        for payload in state.find(type_, _narrowest(request))
        if not is_internal(payload)
        and has_prefix(payload.id, request.id_prefixes)
        and has_name(request.names, payload.spec.name)
        and has_prefix(fold(payload.spec.name), [fold(prefix) for prefix in request.name_prefixes])
        and all(_has_label(payload.spec.labels, key, equals, value) for key, equals, value in labels)
    ]
    found.sort(key=lambda payload: (fold(payload.spec.name), payload.id))
    return found


def _narrowest(request: ListPayloads) -> By:
    ways: tuple[tuple[Any, Sequence[str]], ...] = (
        (ByName, request.names),
        (ByIdPrefix, request.id_prefixes),
        (ByNamePrefix, request.name_prefixes),
    )
    for way, texts in ways:
        if texts:
            return Or(tuple(way(text) for text in texts))
    return All()


def _has_label(labels: dict[str, str], key: str, equals: str, value: str) -> bool:
    return key in labels and (not equals or labels[key] == value)


def is_internal(payload: Secret | Config | Network) -> bool:
    """Whether the swarm made it for itself: it is in no list, and nobody else can name it."""
    return isinstance(payload, Secret) and payload.internal


# -- one of them -------------------------------------------------------------------------------------------------------
def require_id(id: str, noun: str) -> None:
    """Raise `Invalid` for an empty id."""
    if not id:
        raise Invalid(f"a {noun}'s id is missing", field="$.id")


def found(payload: P | None, id: str, noun: str) -> P:
    """`payload`, if there is one that a caller may name. Raises `NotFound`."""
    if payload is None or is_internal(payload):
        raise NotFound(f"{noun} {id} not found", hint=f"swarmctl {noun} ls")
    return payload


def check_name_is_free(tx: Transaction, type_: type[P], name: str, noun: str) -> None:
    """Raise `AlreadyExists` if one of that name, whatever its case, is there."""
    if tx.find(type_, ByName(name)):
        raise AlreadyExists(
            f'a {noun} named "{name}" exists already', hint=f"its payload cannot be changed: create another {noun}"
        )


def check_is_built(spec: SecretSpec | ConfigSpec, noun: str) -> None:
    """Raise `Unimplemented` for what nothing acts upon yet."""
    if isinstance(spec, SecretSpec) and spec.driver is not None:
        raise Unimplemented(
            "drivers of secrets are not built yet", field="$.driver", hint="give the payload itself, in $.data"
        )
    if spec.templating is not None:
        raise Unimplemented(
            f"templates in a {noun} are not built yet", field="$.templating", hint="give the payload as it is to be"
        )


def check_version(old: Secret | Config, version: int, noun: str) -> None:
    """Raise `Conflict` unless the request was made from what is stored; 0: whatever that is."""
    if version not in (0, old.meta.version):
        raise Conflict(
            f"update out of sequence: the {noun} is at version {old.meta.version}, not {version}",
            object=f"{noun} {old.spec.name}",
            hint="somebody else changed it; read it again and repeat what you want",
        )


def check_only_labels(old: SecretSpec | ConfigSpec, new: SecretSpec | ConfigSpec, noun: str) -> None:
    """Raise `Invalid` naming the first field, beside labels and payload, that is not as it was."""
    for field in old.__struct_fields__:
        if field not in ("labels", "data") and getattr(old, field) != getattr(new, field):
            raise only_labels(field, noun)


def only_labels(field: str, noun: str) -> Invalid:
    """The refusal of a change of anything else."""
    return Invalid(
        f"only the labels of a {noun} can be changed, not its {'payload' if field == 'data' else field}",
        field=f"$.{field}",
        hint=f"create another {noun} and let services refer to that",
    )


def check_is_unused(tx: Transaction, payload: Secret | Config, noun: str) -> None:
    """Raise `FailedPrecondition` while a service, or a task that may still run, refers to it. Claims that none does."""
    by = ByReferencedSecret(payload.id) if isinstance(payload, Secret) else ByReferencedConfig(payload.id)
    names = [service.spec.name for service in tx.find(Service, by)]
    lingering = [task.service_name for task in tx.find(Task, by) if task.status.state < TaskState.COMPLETE]
    if names:
        raise FailedPrecondition(
            f'{noun} "{payload.spec.name}" is in use by {enumerated(names)}',
            hint="let these services refer to another one, or remove them",
        )
    if lingering:
        raise FailedPrecondition(
            f'{noun} "{payload.spec.name}" is in use by tasks that still run, of {enumerated(lingering)}',
            hint="try again once they have stopped",
        )


def enumerated(names: Iterable[str]) -> str:
    """`service a`, or `services a, b and 3 more`."""
    distinct = sorted(dict.fromkeys(names))
    shown = ", ".join(distinct[:USERS_SHOWN_MAX])
    more = len(distinct) - USERS_SHOWN_MAX
    noun = "service" if len(distinct) == 1 else "services"
    return f"{noun} {shown} and {more} more" if more > 0 else f"{noun} {shown}"
