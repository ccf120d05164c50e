"""What clients did and were told, one JSON object a line, and what every manager held in the end."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

OK: Final = "ok"
REFUSED: Final = "refused"
"""It did not happen, and never will."""
UNKNOWN: Final = "unknown"
"""It may have happened, or may yet."""


class Call(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call of one client, `began` and `ended` in seconds since the run began.

    `create` makes the object `key` that holds `value`; `write` and `cas` put `value` into the register `key`, `cas`
    only if it is at version `expected`; `read` found `value` at `version`; `status` found `digest` at index `version`.
    """

    client: int
    manager: int
    kind: str
    key: str = ""
    value: int = 0
    began: float
    ended: float
    outcome: str = OK
    version: int = 0
    expected: int = 0
    digest: str = ""
    error: str = ""

    @property
    def is_change(self) -> bool:
        """Whether it was to change something."""
        return self.kind in ("create", "write", "cas")


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What one manager held once all was quiet: the value of each object and register, and the latter's versions."""

    manager: int
    index: int
    digest: str
    values: dict[str, int]
    versions: dict[str, int]


def save(path: Path, records: Iterable[msgspec.Struct]) -> None:
    """Write them, one a line."""
    encoder = msgspec.json.Encoder()
    path.write_bytes(b"".join(encoder.encode(record) + b"\n" for record in records))


def load(path: Path) -> list[Call]:
    """What `save` wrote of a history."""
    return [msgspec.json.decode(line, type=Call) for line in path.read_bytes().splitlines()]
