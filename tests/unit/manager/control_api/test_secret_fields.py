"""The list of secrets knows every stored field whose name sounds like one, and hides bytes that nobody thought of."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from typing import Any

import msgspec

from swarmd.manager.control_api.secret_fields import ASSIGNMENTS, SECRET, SHOWN, STORED, is_secret, without_value
from swarmd.model import JoinTokens, RootCA

SOUNDS_SECRET = re.compile(r"key|token|secret|password|auth|csr|env|data|credential")
HARMLESS = {"tokenless_join", "join_tokens"}
"""A policy, and a struct whose own fields are in the list."""


def fields_of(owner: type[msgspec.Struct]) -> Iterator[tuple[type[msgspec.Struct], str]]:
    """Every field that can be reached from a stored object."""
    for name, annotation in typing.get_type_hints(owner).items():
        yield owner, name
        for inner in _structs_in(annotation):
            yield from fields_of(inner)


def _structs_in(annotation: Any) -> Iterator[type[msgspec.Struct]]:
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _structs_in(argument)


def test_every_stored_field_that_sounds_secret_is_decided() -> None:
    found = {(owner, name) for stored in STORED for owner, name in fields_of(stored)}
    suspicious = {(o, n) for o, n in found if SOUNDS_SECRET.search(n) and n not in HARMLESS}
    assert suspicious
    assert {(o.__name__, n) for o, n in suspicious - SECRET - ASSIGNMENTS - SHOWN} == set()


def test_everything_in_the_list_exists() -> None:
    found = {(owner, name) for stored in STORED for owner, name in fields_of(stored)}
    assert found >= SECRET | ASSIGNMENTS | SHOWN


def test_bytes_are_secret_until_somebody_decides_otherwise() -> None:
    class Later(msgspec.Struct):
        payload: bytes = b""

    assert is_secret(Later, "payload", b"x")
    assert not is_secret(RootCA, "certificate", b"x")
    assert is_secret(JoinTokens, "worker", "x")
    assert not is_secret(RootCA, "digest", "x")


def test_names_of_variables_stay() -> None:
    assert [without_value(item) for item in ("A=b=c", "FLAG", "E=")] == ["A=<redacted>", "FLAG", "E=<redacted>"]
