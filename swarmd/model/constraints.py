"""Placement constraints: `node.labels.zone==eu`, `node.role!=manager` (reference orchestration 7.6, SwarmKit
`manager/constraint`).

Values are compared as whole texts, whatever the case; there are no patterns. Keys of labels are compared as they stand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

import msgspec

from swarmd.errors import Invalid
from swarmd.model.objects import Node
from swarmd.model.quote import quote
from swarmd.model.states import Role

CONSTRAINT_CHARACTERS_MAX: Final = 1_024

NODE_LABEL: Final = "node.labels."
ENGINE_LABEL: Final = "engine.labels."
ATTRIBUTES: Final = ("node.id", "node.hostname", "node.ip", "node.role", "node.platform.os", "node.platform.arch")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9\-_.]+")
_VALUE = re.compile(r"[A-Za-z0-9:\-_.*()?+\[\]\\^$|/\s]+")
_HINT: Final = f"KEY==VALUE or KEY!=VALUE; KEY is {', '.join(ATTRIBUTES)}, node.labels.NAME or engine.labels.NAME"
_ASCII_LOWER: Final = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


class Operator(StrEnum):
    """How a node's value must compare."""

    EQUAL = "=="
    DIFFERENT = "!="


_OPERATORS: Final = tuple((operator.value, operator) for operator in Operator)
"""In the order in which they are looked for. Going through an enum is slow."""


class Constraint(msgspec.Struct, frozen=True, gc=False):
    """One condition. `key` is as `attribute_of` takes it, `value` as it was written, trimmed."""

    key: str
    operator: Operator
    value: str

    def __str__(self) -> str:
        return f"{self.key}{self.operator.value}{self.value}"


def parse_constraint(text: str, field: str = "") -> Constraint:
    """Raises `Invalid` naming `field`: no operator, a bad key or value. An attribute that no node has is legal, and no
    node meets it, as with SwarmKit."""
    if len(text) > CONSTRAINT_CHARACTERS_MAX:
        raise Invalid(f"a constraint has at most {CONSTRAINT_CHARACTERS_MAX} characters", field=field)
    for sign, operator in _OPERATORS:
        key, found, value = text.partition(sign)
        if found:
            return Constraint(_checked_key(key.strip(), field), operator, _checked_value(value.strip(), field))
    raise Invalid(f"constraint expected one operator from ==, !=: {quote(text)}", field=field, hint=_HINT)


@lru_cache(maxsize=4_096)
def parsed(constraints: tuple[str, ...]) -> tuple[Constraint, ...]:
    """All of them. Those of a stored spec were checked before; raises `Invalid` if one cannot be read all the same."""
    return tuple(parse_constraint(text) for text in constraints)


def meets(node: Node, constraints: Iterable[Constraint]) -> bool:
    """Whether the node meets all of them."""
    return all(matches(node, constraint) for constraint in constraints)


def matches(node: Node, constraint: Constraint) -> bool:
    """Whether the node meets this one. A value that is missing is empty: `!=` holds then."""
    if constraint.key == "node.ip":
        return _matches_address(node.status.addr, constraint)
    value = attribute_of(node, constraint.key)
    if value is None:
        return False
    return (folded(value) == folded(constraint.value)) is (constraint.operator is Operator.EQUAL)


def attribute_of(node: Node, key: str) -> str | None:
    """The node's value of a key; None for a key that no node has."""
    if key.startswith(NODE_LABEL):
        return node.spec.labels.get(key[len(NODE_LABEL) :], "")
    if key.startswith(ENGINE_LABEL):
        return node.description.engine_labels.get(key[len(ENGINE_LABEL) :], "")
    match key:
        case "node.id":
            return node.id
        case "node.hostname":
            return node.description.hostname
        case "node.role":
            return "manager" if node.role is Role.MANAGER else "worker"
        case "node.platform.os":
            return node.description.platform.os
        case "node.platform.arch":
            return node.description.platform.architecture
        case _:
            return None


def folded(value: str) -> str:
    """For comparison. ASCII only: Unicode's tables differ between Python versions, and managers must agree."""
    return value.lower() if value.isascii() else value.translate(_ASCII_LOWER)


@lru_cache(maxsize=1_024)
def network_of(value: str) -> IPv4Network | IPv6Network | None:
    """An address, in any spelling, or a subnet; None if it is neither."""
    try:
        return ip_network(value, strict=False)
    except ValueError:
        return None


def _matches_address(addr: str, constraint: Constraint) -> bool:
    wanted = network_of(constraint.value)
    if wanted is None:
        return False  # with != as well: nobody can have meant it
    try:
        address = ip_address(addr.partition("%")[0])
    except ValueError:
        return constraint.operator is Operator.DIFFERENT
    is_within = address.version == wanted.version and address in wanted
    return is_within is (constraint.operator is Operator.EQUAL)


def _checked_key(key: str, field: str) -> str:
    """In the form that `attribute_of` takes: lower case, save for the name of a label."""
    if _KEY.fullmatch(key) is None:
        raise Invalid(f"key {quote(key)} is invalid", field=field, hint=_HINT)
    lower = key.lower()
    for prefix in (NODE_LABEL, ENGINE_LABEL):
        if lower.startswith(prefix):
            if len(key) == len(prefix):
                raise Invalid(f"key {quote(key)} names no label", field=field, hint=_HINT)
            return prefix + key[len(prefix) :]
    return lower


def _checked_value(value: str, field: str) -> str:
    if _VALUE.fullmatch(value) is None:
        raise Invalid(f"value {quote(value)} is invalid", field=field, hint="letters, digits and : - _ . /")
    return value
