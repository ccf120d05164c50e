"""How a service may speak of secrets and configs."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from swarmd.errors import Invalid
from swarmd.model import ConfigReference, ContainerSpec, FileTarget, SecretReference, ServiceSpec, TaskSpec
from swarmd.model.validate import validate_service_spec
from swarmd.model.validate_references import (
    MODE_MAX,
    OWNER_MAX,
    REFERENCES_MAX,
    TARGET_CHARACTERS_MAX,
    check_references,
)

FILE = FileTarget(name="key.pem")
SECRET = SecretReference(secret_id="s1", secret_name="key", file=FILE)
CONFIG = ConfigReference(config_id="c1", config_name="site", file=FILE)


def spec(*references: Any) -> ContainerSpec:
    return ContainerSpec(
        image="a",
        secrets=tuple(r for r in references if isinstance(r, SecretReference)),
        configs=tuple(r for r in references if isinstance(r, ConfigReference)),
    )


def refusal(*references: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        check_references(spec(*references), "$.c")
    return caught.value


def with_file(reference: Any, **fields: Any) -> Any:
    return replace(reference, file=replace(FILE, **fields))


BAD_TARGETS = (
    *("", ".", "..", "../x", "/etc/x", "a/../../b", "a/b", "a\0b", "a\n", "\n", "a b", "ключ", "a\\b", "~x", "a:b"),
    "x" * (TARGET_CHARACTERS_MAX + 1),
    "x" * 1_000_000,
)


@pytest.mark.parametrize("reference", [SECRET, CONFIG], ids=["secret", "config"])
@pytest.mark.parametrize("name", BAD_TARGETS, ids=lambda name: repr(name[:12]))
def test_a_target_is_one_component_of_a_path(reference: Any, name: str) -> None:
    error = refusal(with_file(reference, name=name))
    assert (error.field or "").endswith("s[0].file.name")
    assert "file" in error.message
    assert len(error.message) < 300


@pytest.mark.parametrize("name", ["a", "key.pem", ".hidden", "...", "-x", "_", "A-1_b.c", "x" * TARGET_CHARACTERS_MAX])
def test_these_are(name: str) -> None:
    check_references(spec(with_file(SECRET, name=name), with_file(CONFIG, name=name)), "$.c")


@given(st.text(max_size=300))
def test_whatever_passes_stays_in_its_directory(name: str) -> None:
    try:
        check_references(spec(with_file(SECRET, name=name)), "$.c")
    except Invalid:
        return
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,255}\Z", name)
    assert name not in (".", "..")


@pytest.mark.parametrize("mode", [-1, MODE_MAX + 1, 0o4755, 1 << 70])
def test_a_mode_has_no_more_than_permissions(mode: int) -> None:
    error = refusal(with_file(SECRET, mode=mode))
    assert error.field == "$.c.secrets[0].file.mode"
    assert len(error.message) < 100


@pytest.mark.parametrize("mode", [0, 0o400, 0o777])
def test_permissions_are_fine(mode: int) -> None:
    check_references(spec(with_file(SECRET, mode=mode)), "$.c")


@pytest.mark.parametrize("field", ["uid", "gid"])
@pytest.mark.parametrize("owner", ["", "root", "-1", "1 ", "1\n", "1_0", "\uff11", str(OWNER_MAX + 1), "9" * 10_000])
def test_an_owner_is_a_number(field: str, owner: str) -> None:
    assert refusal(with_file(CONFIG, **{field: owner})).field == f"$.c.configs[0].file.{field}"
    check_references(spec(with_file(CONFIG, **{field: str(OWNER_MAX)})), "$.c")


@pytest.mark.parametrize(
    ("reference", "field"),
    [
        (replace(SECRET, secret_id=""), "secrets[0].secret_id"),
        (replace(SECRET, secret_name=""), "secrets[0].secret_name"),
        (replace(SECRET, secret_name="a\0"), "secrets[0].secret_name"),
        (replace(SECRET, secret_id="x" * 300), "secrets[0].secret_id"),
        (replace(SECRET, file=None), "secrets[0].file"),
        (replace(CONFIG, config_id=""), "configs[0].config_id"),
        (replace(CONFIG, config_name=""), "configs[0].config_name"),
        (replace(CONFIG, file=None), "configs[0].file"),
        (replace(CONFIG, is_runtime=True), "configs[0].file"),
    ],
)
def test_a_reference_says_what_and_where(reference: Any, field: str) -> None:
    assert refusal(reference).field == f"$.c.{field}"


def test_a_config_may_be_for_the_executor_itself() -> None:
    check_references(spec(replace(CONFIG, file=None, is_runtime=True)), "$.c")


def test_two_of_a_kind_share_no_file_and_a_secret_and_a_config_may() -> None:
    assert refusal(SECRET, replace(SECRET, secret_id="s2")).field == "$.c.secrets[1].file.name"
    assert refusal(CONFIG, replace(CONFIG, config_id="c2")).field == "$.c.configs[1].file.name"
    check_references(spec(SECRET, CONFIG), "$.c")
    check_references(spec(SECRET, with_file(SECRET, name="again")), "$.c")


def test_there_are_at_most_a_hundred_of_each() -> None:
    many = [with_file(SECRET, name=f"f{number}") for number in range(REFERENCES_MAX + 1)]
    check_references(spec(*many[:-1]), "$.c")
    assert refusal(*many).field == "$.c.secrets"


def test_services_are_looked_at_for_it() -> None:
    with pytest.raises(Invalid) as caught:
        validate_service_spec(ServiceSpec(name="web", task=TaskSpec(container=spec(with_file(SECRET, name="../x")))))
    assert caught.value.field == "$.task.container.secrets[0].file.name"
