"""JSON and YAML: the model's own field names, every field present, instants RFC 3339, enums as words, bytes base64."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from enum import Enum
from typing import Any

import msgspec

from swarmctl.render.text import instant

_PLAIN_YAML = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff]")
"""What `json` leaves as it is and a terminal, YAML or UTF-8 does not take."""
_YAML_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf"})


def plain(value: Any, name: str = "") -> Any:
    """`value` as what JSON knows. `name` is the field it is in: `at` and `*_at` are instants."""
    if isinstance(value, msgspec.Struct):
        return _struct(value)
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and (name == "at" or name.endswith("_at")):
        return instant(value)
    return value


def _struct(value: msgspec.Struct) -> dict[str, Any]:
    config = value.__struct_config__
    tagged = {config.tag_field: config.tag} if config.tag_field else {}
    return tagged | {field: plain(getattr(value, field), field) for field in value.__struct_fields__}


def to_json(document: Any) -> str:
    """Indented, as UTF-8 text, ended by a newline."""
    return _dump(document, indent=2) + "\n"


def to_json_line(document: Any) -> str:
    """On one line, ended by a newline."""
    return _dump(document) + "\n"


def to_yaml(document: Any) -> str:
    """Block style. Strings that could be read as anything else are quoted as in JSON, which YAML 1.2 contains."""
    return "".join(f"{line}\n" for line in _yaml(document))


def _yaml(value: Any) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _entry(f"{_scalar(key)}:", item, indent="  ")
    elif isinstance(value, list) and value:
        for item in value:
            first, *rest = _yaml(item)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
    else:
        yield _scalar(value)


def _entry(head: str, item: Any, *, indent: str) -> Iterator[str]:
    if isinstance(item, (dict, list)) and item:
        yield head
        yield from (indent + line for line in _yaml(item))
    else:
        yield f"{head} {_scalar(item)}"


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN_YAML.fullmatch(value) and value.casefold() not in _YAML_WORDS:
        return value
    return _dump(value)


def _dump(value: Any, *, indent: int | None = None) -> str:
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
