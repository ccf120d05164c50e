"""What secrets and configs are given on a command line: a payload from a file or standard input, labels, filters.

A payload is never an argument: other users see arguments, and shells keep them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from swarmctl.environment import Environment
from swarmctl.values import parse_pairs
from swarmd.errors import Invalid
from swarmd.wire.payloads import ListPayloads

PAYLOAD_BYTES_MAX: Final = 1_023_999
"""The largest payload there is: nothing beyond it is read. What a secret may have is the manager's to say."""
FILTERS: Final = ("id", "name", "label")

Filters = Annotated[
    list[str] | None,
    typer.Option(
        *("--filter", "-f"),
        metavar="KEY=VALUE",
        help="Only what fits: id (its beginning), name (or beginning*), label (KEY or KEY=VALUE). "
        "The same key again: or; of labels, all must fit.",
    ),
]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where a new payload comes from: `FILE` or `-f FILE`; `-` or neither: standard input."""

    file: Annotated[
        str | None, typer.Option("--file", "-f", metavar="FILE", help="The same as FILE after the name.")
    ] = None
    label: Annotated[
        list[str] | None, typer.Option("--label", "-l", metavar="KEY=VALUE", help="A label; may be repeated.")
    ] = None
    template_driver: Annotated[str | None, typer.Option("--template-driver", metavar="NAME", help="Not built yet.")] = (
        None
    )

    @property
    def labels(self) -> dict[str, str]:
        """Raises `Invalid`."""
        return parse_pairs(self.label or (), "--label")


class LabelEdits(msgspec.Struct, frozen=True, kw_only=True):
    """All that can be changed of a secret or config."""

    label_add: Annotated[
        list[str] | None, typer.Option("--label-add", metavar="KEY=VALUE", help="Add or change a label.")
    ] = None
    label_rm: Annotated[list[str] | None, typer.Option("--label-rm", metavar="KEY", help="Take a label away.")] = None
    version: Annotated[
        str | None, typer.Option("--version", metavar="N", help="Only if it is still at this version.")
    ] = None

    def applied(self, labels: dict[str, str]) -> dict[str, str]:
        """`labels` after the edits: what is taken away goes first. Raises `Invalid`."""
        removed = set(self.label_rm or ())
        kept = {key: value for key, value in labels.items() if key not in removed}
        return kept | parse_pairs(self.label_add or (), "--label-add")

    @property
    def is_empty(self) -> bool:
        """Whether no edit was given."""
        return not (self.label_add or self.label_rm)


def read_payload(environment: Environment, noun: str, name: str, argument: str | None, option: str | None) -> bytes:
    """The bytes of `argument` (FILE or `-`) or of `option`, as they are; of standard input if neither was given.

    Raises `Invalid` for two sources, an unreadable or empty one, one beyond the largest payload, and where nobody but a
    terminal would be read unasked.
    """
    if argument is not None and option is not None:
        raise Invalid(f"the payload comes from {argument} or from {option}, not from both", hint="leave out --file")
    path = argument if argument is not None else option
    if path is None and environment.is_terminal():
        raise Invalid(
            f"the {noun}'s payload is missing", hint=f"swarmctl {noun} create {name or 'NAME'} FILE, or - for stdin"
        )
    if path is None or path == "-":
        where, data = "standard input", environment.read_bytes(PAYLOAD_BYTES_MAX + 1)
    else:
        where, data = f'"{path}"', _read_file(path)
    if not data:
        raise Invalid(f"{where} is empty: a {noun} has at least one byte")
    if len(data) > PAYLOAD_BYTES_MAX:
        raise Invalid(f"{where} is larger than the {PAYLOAD_BYTES_MAX:,} bytes that anything may have")
    return data


def _read_file(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(PAYLOAD_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "that is no path"
        raise Invalid(f'cannot read "{path}": {reason}') from error


def parse_list_filters(texts: Sequence[str]) -> ListPayloads:
    """What `--filter` asks for. Raises `Invalid` naming the filter."""
    found: dict[str, list[str]] = {"id_prefixes": [], "names": [], "name_prefixes": [], "labels": []}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not value or key not in FILTERS:
            raise Invalid(f'--filter: "{text}" is not understood', hint=f"KEY=VALUE, with {', '.join(FILTERS)}")
        found[_field(key, value)].append(value.removesuffix("*") if key == "name" else value)
    if found["names"] and found["name_prefixes"]:
        raise Invalid("--filter: whole names and beginnings of names cannot be mixed", hint="name=a*, or name=a")
    return ListPayloads(**{field: tuple(values) for field, values in found.items()})


def _field(key: str, value: str) -> str:
    if key == "name":
        return "name_prefixes" if value.endswith("*") else "names"
    return "id_prefixes" if key == "id" else "labels"
