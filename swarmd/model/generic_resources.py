"""Generic resources as text: `gpu=UUID1,gpu=UUID2,licence=3` (reference orchestration 7.5, SwarmKit
`api/genericresource/parse.go`)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from swarmd.errors import Invalid
from swarmd.model.checks import INTEGER_MAX
from swarmd.model.placement import GenericResource
from swarmd.model.quote import quote

TEXT_CHARACTERS_MAX: Final = 64 << 10
KINDS_MAX: Final = 256
NAME_CHARACTERS_MAX: Final = 256

RESERVED_KINDS: Final = ("cpu", "memory")
"""What every node has anyway."""

_KIND = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_AMOUNT = re.compile(r"[+-]?[0-9]{1,20}")
_HINT: Final = "write KIND=NUMBER or KIND=NAME, separated by commas: licence=3,gpu=UUID1,gpu=UUID2"


def parse_generic_resources(text: str, *, field: str) -> tuple[GenericResource, ...]:
    """What a node has, by kind: an amount, or a set of names in the order in which they stand.

    Raises `Invalid` naming `field`: no `=`, a bad kind or name, a negative amount, a kind given twice as a number or as
    both.
    """
    if len(text) > TEXT_CHARACTERS_MAX:
        raise Invalid(f"generic resources take at most {TEXT_CHARACTERS_MAX} characters", field=field)
    found: dict[str, list[str]] = {}
    for term in text.split(",") if text else ():
        kind, equals, value = term.strip().partition("=")
        if not equals or not value:
            raise Invalid(f"{quote(term)} is not a generic resource", field=field, hint=_HINT)
        check_kind(kind, field)
        found.setdefault(kind, []).append(value)
    if len(found) > KINDS_MAX:
        raise Invalid(f"there are at most {KINDS_MAX} kinds of generic resources", field=field)
    return tuple(_resource(kind, values, field) for kind, values in sorted(found.items()))


def check_kind(kind: str, field: str) -> None:
    """Raise `Invalid` unless it can name a kind."""
    if len(kind) > NAME_CHARACTERS_MAX or _KIND.fullmatch(kind) is None:
        raise Invalid(f"{quote(kind)} is not a legal kind of resource", field=field, hint="letters, digits, _ . and -")
    if kind in RESERVED_KINDS:
        raise Invalid(
            f"{kind} is not a generic resource", field=field, hint="reserve it as such, or choose a name of its own"
        )


def format_generic_resources(resources: Iterable[GenericResource]) -> str:
    """The text that `parse_generic_resources` reads."""
    terms: list[str] = []
    for resource in resources:
        terms += [f"{resource.kind}={name}" for name in resource.names] or [f"{resource.kind}={resource.amount}"]
    return ",".join(terms)


def resource_environment(resources: Iterable[GenericResource]) -> dict[str, str]:
    """How a task learns what it got: `DOCKER_RESOURCE_GPU=UUID1,UUID2` or `=3`, as its users know it from Docker."""
    return {
        f"DOCKER_RESOURCE_{resource.kind.upper()}": ",".join(resource.names) or str(resource.amount)
        for resource in resources
    }


def _resource(kind: str, values: list[str], field: str) -> GenericResource:
    numbers = [value for value in values if _AMOUNT.fullmatch(value)]
    if not numbers:
        for name in values:
            if len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
                raise Invalid(f"{quote(name)} cannot name a {kind}", field=field)
        if len(set(values)) != len(values):
            raise Invalid(f"a {kind} is named twice", field=field, hint="each member of a set has a name of its own")
        return GenericResource(kind=kind, names=tuple(values))
    if len(values) > 1:
        raise Invalid(f"mixed discrete and named resources of kind {kind}", field=field, hint=_HINT)
    amount = int(numbers[0])
    if not 0 <= amount <= INTEGER_MAX:
        raise Invalid(f"a node cannot have {amount} of {kind}", field=field, hint="0 or more")
    return GenericResource(kind=kind, amount=amount)
