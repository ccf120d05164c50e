"""Two shapes: a table with a dashed header, and a summary of `key : value` lines (reference api-and-cli 3.1, 3.4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from swarmctl.render.text import one_line

LIST_GAP: Final = 2
TASK_GAP: Final = 4
SUMMARY_GAP: Final = 8

Row = Sequence[str]
SummaryLine = tuple[str, str | None]
"""Key and value. A value of None makes a heading; an empty one leaves the line out."""


def table(header: Row, rows: Iterable[Row], *, gap: int = LIST_GAP) -> str:
    """Header, dashes as long as each header word, rows; columns `gap` apart; no blanks at the ends of lines."""
    lines = [tuple(header), tuple("-" * len(word) for word in header)]
    lines += [tuple(one_line(cell) for cell in row) for row in rows]
    widths = [max(len(cell) for cell in column) + gap for column in zip(*lines, strict=True)]
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines
    )


def summary(lines: Iterable[SummaryLine]) -> str:
    """Values aligned in one column, eight blanks after the longest key."""
    kept = [(key, value) for key, value in lines if value != ""]
    width = max((len(key) for key, _ in kept), default=0) + SUMMARY_GAP
    return "".join(f"{key}\n" if value is None else f"{key.ljust(width)}: {one_line(value)}\n" for key, value in kept)
