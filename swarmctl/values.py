"""Values as users type them: durations, sizes, CPUs, `KEY=value`. Each raises `Invalid` naming its option."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

from swarmd.errors import Invalid
from swarmd.model import RestartCondition

T = TypeVar("T")

CHARACTERS_MAX: Final = 64
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|us|ns|s|m|h|d)")
_DURATION_UNIT_S: Final = {
    "ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0,
}  # fmt: skip
NANO: Final = 10**9
_RATIO = re.compile(r"([0-9]+)/([0-9]+)")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgtp]?)(?:i?b)?")
_SIZE_UNIT: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_CONDITIONS: Final = {
    "none": RestartCondition.NONE,
    "failure": RestartCondition.ON_FAILURE,
    "on-failure": RestartCondition.ON_FAILURE,
    "any": RestartCondition.ANY,
}


def parse_duration(text: str, option: str) -> float:
    """Seconds of `10s`, `1m30s`, `500ms`, `2h`, `10`."""
    hint = "like 10s, 1m30s, 500ms"
    _bounded(text, option, hint)
    if _NUMBER.fullmatch(text):
        return float(text)
    parts = list(_DURATION_PART.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        raise malformed(text, option, hint)
    return sum(float(part[1]) * _DURATION_UNIT_S[part[2]] for part in parts)


def parse_memory(text: str, option: str) -> int:
    """Bytes of `512m`, `1.5g`, `1048576`; units are powers of 1024."""
    hint = "like 512m or 1.5g"
    _bounded(text, option, hint)
    match = _SIZE.fullmatch(text.lower())
    if match is None:
        raise malformed(text, option, hint)
    return _scaled(match[1], _SIZE_UNIT[match[2]])[0]


def parse_cpus(text: str, option: str) -> int:
    """Nano-CPUs of `0.5`, `2`, `1/3`; at most nine decimals."""
    hint = "like 0.5, 2 or 1/4"
    _bounded(text, option, hint)
    if (ratio := _RATIO.fullmatch(text)) is not None and int(ratio[2]):
        return NANO * int(ratio[1]) // int(ratio[2])
    if _NUMBER.fullmatch(text) is None:
        raise malformed(text, option, hint)
    nano, rest = _scaled(text, NANO)
    if rest:
        raise Invalid(f'{option}: "{text}" has more than nine decimals', hint=hint)
    return nano


def _scaled(decimal: str, unit: int) -> tuple[int, int]:
    """`decimal` times `unit`, exactly: the whole part, and what was left over (0: nothing)."""
    whole, _, fraction = decimal.partition(".")
    power: int = 10 ** len(fraction)
    return divmod(int(whole + fraction) * unit, power)


def parse_integer(text: str, option: str) -> int:
    """A whole number, negative ones too: what is legal is the manager's to say."""
    _bounded(text, option, "a whole number")
    if _INTEGER.fullmatch(text) is None:
        raise malformed(text, option, "a whole number")
    return int(text)


def parse_ratio(text: str, option: str) -> float:
    """`0.25`, `25%`, `1/4`. Whether it is one of the legal ones is the manager's to say."""
    hint = "like 0.25, 25% or 1/4"
    _bounded(text, option, hint)
    if (ratio := _RATIO.fullmatch(text)) is not None and int(ratio[2]):
        return int(ratio[1]) / int(ratio[2])
    number = text.removesuffix("%")
    if _NUMBER.fullmatch(number) is None:
        raise malformed(text, option, hint)
    return float(number) / 100 if text.endswith("%") else float(number)


def parse_choice(text: str, choices: Mapping[str, T], option: str) -> T:
    """One of these words, whatever the case, with `-` or `_`."""
    word = text.lower().replace("_", "-")
    if word not in choices:
        *others, last = choices
        raise malformed(text[:CHARACTERS_MAX], option, f"{', '.join(others)} or {last}")
    return choices[word]


def parse_pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """`KEY=value` each, blanks around both dropped; the last of equal keys wins."""
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise malformed(text, option, "KEY=value")
        pairs[key.strip()] = value.strip()
    return pairs


def parse_condition(text: str, option: str) -> RestartCondition:
    """`none`, `failure` (or `on-failure`), `any`."""
    condition = _CONDITIONS.get(text.lower().replace("_", "-"))
    if condition is None:
        raise malformed(text, option, "none, failure or any")
    return condition


def parse_signal(text: str) -> str:
    """The full name in upper case: `term` is `SIGTERM`. Whether it exists is the manager's to say."""
    upper = text.upper()
    return upper if not upper or upper.startswith("SIG") else f"SIG{upper}"


def _bounded(text: str, option: str, hint: str) -> None:
    if len(text) > CHARACTERS_MAX:
        raise malformed(text[:CHARACTERS_MAX] + "...", option, hint)


def malformed(text: str, option: str, hint: str) -> Invalid:
    """What is said of a value that cannot be read."""
    return Invalid(f'{option}: "{text}" is not understood', hint=hint)
