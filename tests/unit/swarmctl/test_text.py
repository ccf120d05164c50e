from __future__ import annotations

import pytest

from swarmctl.render import text
from swarmd.errors import Invalid, NotFound

DAY = 86400.0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.9, "now"),
        (1.0, "1 second ago"),
        (1.9, "1 second ago"),
        (2.0, "2 seconds ago"),
        (59.9, "59 seconds ago"),
        (60.0, "1 minute ago"),
        (119.0, "1 minute ago"),
        (120.0, "2 minutes ago"),
        (3599.0, "59 minutes ago"),
        (3600.0, "1 hour ago"),
        (7200.0, "2 hours ago"),
        (23 * 3600 + 59 * 60, "23 hours ago"),
        (DAY, "1 day ago"),
        (2 * DAY, "2 days ago"),
        (7 * DAY, "1 week ago"),
        (14 * DAY, "2 weeks ago"),
        (29 * DAY, "4 weeks ago"),
        (30 * DAY, "1 month ago"),
        (60 * DAY, "2 months ago"),
        (359 * DAY, "11 months ago"),
        (360 * DAY, "1 year ago"),
        (540 * DAY, "2 years ago"),
        (720 * DAY, "2 years ago"),
        (3 * 360 * DAY, "3 years ago"),
        (37 * 360 * DAY, "a long while ago"),
        (-0.5, "now"),
        (-1.0, "1 second from now"),
        (-90.0, "1 minute from now"),
    ],
)
def test_relative_time(seconds: float, words: str) -> None:
    now = 1_800_000_000.0
    assert text.relative_time(now - seconds, now) == words


def test_an_instant_that_never_was_is_empty() -> None:
    assert text.relative_time(0.0, 1.0) == ""
    assert text.instant(0.0) is None


def test_instants_are_rfc_3339() -> None:
    assert text.instant(1_800_000_000.0) == "2027-01-15T08:00:00Z"
    assert text.instant(1_800_000_000.25) == "2027-01-15T08:00:00.250000Z"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0s"), (5.0, "5s"), (0.5, "500ms"), (90, "1m30s"), (60, "1m0s"), (90 * DAY, "2160h0m0s"), (2.5, "2.5s")],
)
def test_durations(seconds: float, words: str) -> None:
    assert text.duration(seconds) == words


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (4 << 30, "4 GiB"), (1 << 60, "1024 PiB")]
)
def test_sizes(size: int, words: str) -> None:
    assert text.memory(size) == words


def test_cpus() -> None:
    assert [text.cpus(nano) for nano in (500_000_000, 2_000_000_000, 1, 0)] == ["0.5", "2", "0.000000001", "0"]


def test_text_from_elsewhere_cannot_drive_the_terminal() -> None:
    assert text.one_line("a\x1b[2Jb\nc\x9bd") == "a [2Jb c d"


def test_error_lines() -> None:
    assert text.error_lines(NotFound("gone")) == "Error: gone\n"
    error = Invalid("bad\nthing", object="service web", field="$.name", hint="fix\nit")
    assert text.error_lines(error) == "Error: service web: bad thing ($.name)\nHint: fix it\n"
    assert text.error_lines(Invalid("service web is bad", object="service web")) == "Error: service web is bad\n"
