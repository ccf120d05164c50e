"""The validity of placement and of generic reservations: nothing, or `Invalid` with the field."""

from __future__ import annotations

from typing import Final

from swarmd.errors import Invalid
from swarmd.model.checks import check_integer, check_labels, check_text
from swarmd.model.common import Driver
from swarmd.model.constraints import ENGINE_LABEL, NODE_LABEL, parse_constraint
from swarmd.model.generic_resources import check_kind
from swarmd.model.placement import GenericResource, Placement, Platform
from swarmd.model.quote import quote

CONSTRAINTS_MAX: Final = 256
PREFERENCES_MAX: Final = 16
PLATFORMS_MAX: Final = 64
GENERIC_MAX: Final = 64
PLATFORM_BYTES_MAX: Final = 64
LABEL_BYTES_MAX: Final = 256
DRIVER_BYTES_MAX: Final = 256
MAX_REPLICAS_MAX: Final = 1_000_000


def check_placement(spec: Placement, path: str) -> None:
    """Raise `Invalid` unless tasks could be placed by it."""
    _check_count(spec.constraints, CONSTRAINTS_MAX, f"{path}.constraints", "constraints")
    for position, text in enumerate(spec.constraints):
        parse_constraint(text, f"{path}.constraints[{position}]")
    _check_count(spec.preferences, PREFERENCES_MAX, f"{path}.preferences", "preferences")
    for position, preference in enumerate(spec.preferences):
        _check_descriptor(preference.spread, f"{path}.preferences[{position}].spread")
    _check_count(spec.platforms, PLATFORMS_MAX, f"{path}.platforms", "platforms")
    for position, platform in enumerate(spec.platforms):
        _check_platform(platform, f"{path}.platforms[{position}]")
    check_integer(spec.max_replicas, f"{path}.max_replicas", "the replicas per node", maximum=MAX_REPLICAS_MAX)


def check_generic_reservations(reservations: tuple[GenericResource, ...], path: str) -> None:
    """Raise `Invalid` unless each is an amount of a kind of its own: which members of a set a task gets is chosen when
    it is placed, so that asking for one by name could never be met."""
    _check_count(reservations, GENERIC_MAX, path, "generic resources")
    seen: set[str] = set()
    for position, resource in enumerate(reservations):
        field = f"{path}[{position}]"
        check_kind(resource.kind, f"{field}.kind")
        if resource.names:
            raise Invalid(
                f"a {resource.kind} cannot be asked for by name", field=f"{field}.names", hint=f"{resource.kind}=1"
            )
        if resource.kind in seen:
            raise Invalid(f"{resource.kind} is asked for twice", field=field, hint="add the amounts up")
        seen.add(resource.kind)
        check_integer(resource.amount, f"{field}.amount", f"the amount of {resource.kind}")
        if resource.amount == 0:
            raise Invalid(f"no {resource.kind} at all is asked for", field=f"{field}.amount", hint="1 or more")


def check_log_driver(driver: Driver | None, path: str) -> None:
    """Raise `Invalid` unless a node's engine could be told to log by it. An empty name leaves the engine's own."""
    if driver is None:
        return
    check_text(driver.name, f"{path}.name", DRIVER_BYTES_MAX)
    if not driver.name.isprintable():
        raise Invalid("a driver's name holds no control characters", field=f"{path}.name")
    check_labels(driver.options, f"{path}.options")


def _check_descriptor(text: str, path: str) -> None:
    check_text(text, path, LABEL_BYTES_MAX)
    lower = text.lower()
    for prefix in (NODE_LABEL, ENGINE_LABEL):
        if lower.startswith(prefix) and len(text) > len(prefix):
            return
    raise Invalid(
        f"tasks cannot be spread over {quote(text)}", field=path, hint="node.labels.NAME or engine.labels.NAME"
    )


def _check_platform(platform: Platform, path: str) -> None:
    for field, text in (("architecture", platform.architecture), ("os", platform.os)):
        check_text(text, f"{path}.{field}", PLATFORM_BYTES_MAX)
        if not text.isprintable():
            raise Invalid("a platform holds no control characters", field=f"{path}.{field}")


def _check_count(items: tuple[object, ...], maximum: int, path: str, what: str) -> None:
    if len(items) > maximum:
        raise Invalid(f"there are at most {maximum} {what}, not {len(items)}", field=path)
