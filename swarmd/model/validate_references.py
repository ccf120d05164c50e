"""How a service may speak of secrets and configs: nothing, or `Invalid` with the field.

Sources: reference api-and-cli 1.5, security 7.1 and 10 (18); SwarmKit `manager/controlapi/service.go`. SwarmKit leaves
the target to the runtime; here it is one component of a path, so that no node has to resolve what an operator wrote.
"""

from __future__ import annotations

import re
from typing import Final

from swarmd.errors import Invalid
from swarmd.model.checks import check_text
from swarmd.model.quote import quote
from swarmd.model.references import ConfigReference, FileTarget, SecretReference
from swarmd.model.specs import ContainerSpec

REFERENCES_MAX: Final = 100
"""Secrets of one service, and configs of one."""
TARGET_CHARACTERS_MAX: Final = 255
MODE_MAX: Final = 0o777
OWNER_MAX: Final = (1 << 32) - 2
"""The largest user or group: all ones means "none" to the kernel."""
_NAME_BYTES_MAX: Final = 256

_TARGET = re.compile(r"[A-Za-z0-9._-]+")
_OWNER = re.compile(r"[0-9]{1,10}")


def check_references(spec: ContainerSpec, path: str) -> None:
    """Raise `Invalid` unless each reference names something and where it goes. Whether that is there is for the state
    to say. Secrets and configs are looked at apart: one of each may have the same target."""
    _check_secrets(spec.secrets, f"{path}.secrets")
    _check_configs(spec.configs, f"{path}.configs")


def _check_secrets(references: tuple[SecretReference, ...], path: str) -> None:
    _check_count(len(references), path, "secrets")
    targets: dict[str, int] = {}
    for position, reference in enumerate(references):
        at = f"{path}[{position}]"
        _check_named(reference.secret_id, reference.secret_name, at, "secret")
        if reference.file is None:
            raise Invalid("a secret needs a file to be put in", field=f"{at}.file", hint="give the file's name")
        _check_file(reference.file, f"{at}.file", targets, position)


def _check_configs(references: tuple[ConfigReference, ...], path: str) -> None:
    _check_count(len(references), path, "configs")
    targets: dict[str, int] = {}
    for position, reference in enumerate(references):
        at = f"{path}[{position}]"
        _check_named(reference.config_id, reference.config_name, at, "config")
        if reference.is_runtime == (reference.file is not None):
            raise Invalid(
                "a config is put in a file or read by the executor itself, one of the two",
                field=f"{at}.file",
                hint="give the file's name",
            )
        if reference.file is not None:
            _check_file(reference.file, f"{at}.file", targets, position)


def _check_count(count: int, path: str, what: str) -> None:
    if count > REFERENCES_MAX:
        raise Invalid(f"a service has at most {REFERENCES_MAX} {what}, not {count}", field=path)


def _check_named(id: str, name: str, path: str, noun: str) -> None:
    for field, value in ((f"{noun}_id", id), (f"{noun}_name", name)):
        if not value:
            raise Invalid(f"a {noun} is referred to by id and name", field=f"{path}.{field}", hint="give both")
        check_text(value, f"{path}.{field}", _NAME_BYTES_MAX)


def _check_file(file: FileTarget, path: str, targets: dict[str, int], position: int) -> None:
    _check_target(file.name, f"{path}.name")
    if file.name in targets:
        raise Invalid(
            f"{quote(file.name)} is the file of two of them, number {targets[file.name]} and {position}",
            field=f"{path}.name",
        )
    targets[file.name] = position
    for field, owner in (("uid", file.uid), ("gid", file.gid)):
        if len(owner) > 10 or _OWNER.fullmatch(owner) is None or int(owner) > OWNER_MAX:
            raise Invalid(
                f"{quote(owner)} is not a number of a user or group",
                field=f"{path}.{field}",
                hint=f"digits, at most {OWNER_MAX}",
            )
    if not 0 <= file.mode <= MODE_MAX:
        shown = f"{file.mode:#o}" if file.mode.bit_length() <= 64 else "a huge number"
        raise Invalid(f"a file's mode is 0 to {MODE_MAX:#o}, not {shown}", field=f"{path}.mode")


def _check_target(name: str, path: str) -> None:
    if len(name) > TARGET_CHARACTERS_MAX:
        raise Invalid(f"a file's name has at most {TARGET_CHARACTERS_MAX} characters, not {len(name)}", field=path)
    if _TARGET.fullmatch(name) is None or name in (".", ".."):
        raise Invalid(
            f"{quote(name)} is not the name of a file",
            field=path,
            hint="letters, digits, . _ and -; no directories",
        )
