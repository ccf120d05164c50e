"""Words: relative times, durations, sizes, error lines. Text from elsewhere is made harmless for a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from swarmd.errors import SwarmError
from swarmd.model import GenericResource

MINUTE: Final = 60
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
WEEK: Final = 7 * DAY
MONTH: Final = 30 * DAY
YEAR: Final = 12 * MONTH

_MAGNITUDES: Final = (
    (MINUTE, "seconds", 1),
    (2 * MINUTE, "1 minute", 0),
    (HOUR, "minutes", MINUTE),
    (2 * HOUR, "1 hour", 0),
    (DAY, "hours", HOUR),
    (2 * DAY, "1 day", 0),
    (WEEK, "days", DAY),
    (2 * WEEK, "1 week", 0),
    (MONTH, "weeks", WEEK),
    (2 * MONTH, "1 month", 0),
    (YEAR, "months", MONTH),
    (18 * MONTH, "1 year", 0),
    (2 * YEAR, "2 years", 0),
    (37 * YEAR, "years", YEAR),
)


def relative_time(at: float, now: float) -> str:
    """`2 minutes ago`, truncated; empty for an instant that never was (reference api-and-cli 3.1)."""
    if not at:
        return ""
    distance = int(abs(now - at))
    if distance < 1:
        return "now"
    direction = "ago" if at <= now else "from now"
    if distance == 1:
        return f"1 second {direction}"
    for limit, words, unit in _MAGNITUDES:
        if distance < limit:
            return f"{distance // unit} {words} {direction}" if unit else f"{words} {direction}"
    return f"a long while {direction}"


def instant(at: float) -> str | None:
    """RFC 3339 in UTC, to the microsecond where there is a fraction; None for an instant that never was."""
    if not at:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def duration(seconds: float) -> str:
    """`1h30m0s`, `5s`, `500ms`: the notation that `parse_duration` reads."""
    if seconds and abs(seconds) < 1:
        return f"{seconds * 1000:g}ms"
    whole, text = int(seconds), f"{seconds % 60:g}s"
    if whole >= HOUR:
        return f"{whole // HOUR}h{whole % HOUR // MINUTE}m{text}"
    return f"{whole // MINUTE}m{text}" if whole >= MINUTE else text


def elapsed(seconds: float) -> str:
    """`0.3s`, `12s`, `2m5s`: to a tenth below ten seconds, whole seconds above."""
    return f"{seconds:.1f}s" if seconds < 10 else duration(int(seconds))


def memory(size: int) -> str:
    """Four significant digits and a binary unit."""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.4g} {unit}"


def cpus(nano_cpus: int) -> str:
    """CPUs with as many decimals as needed."""
    return f"{nano_cpus / 1e9:.9f}".rstrip("0").rstrip(".")


def generic(resources: Iterable[GenericResource]) -> str:
    """`gpu=2 [UUID1, UUID2], licence=3`."""
    return ", ".join(
        f"{one.kind}={len(one.names) or one.amount}" + (f" [{', '.join(one.names)}]" if one.names else "")
        for one in resources
    )


def one_line(text: str) -> str:
    """`text` without line breaks and control characters: it may come from another machine."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " for char in text).strip()


def error_lines(error: SwarmError) -> str:
    """`Error: ...`, and `Hint: ...` where there is one."""
    message = error.message
    if error.object and error.object not in message:
        message = f"{error.object}: {message}"
    if error.field:
        message = f"{message} ({error.field})"
    lines = f"Error: {one_line(message)}\n"
    return lines + f"Hint: {one_line(error.hint)}\n" if error.hint else lines
