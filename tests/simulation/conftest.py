"""Says at the end what the simulated lives contained, so that a quiet simulator cannot pass for a good one."""

from __future__ import annotations

from collections import Counter

import pytest

LIVED = pytest.StashKey[Counter[str]]()
LIVES = pytest.StashKey[list[int]]()


@pytest.fixture(scope="session")
def lived(request: pytest.FixtureRequest) -> Counter[str]:
    """What all lives of this session contained."""
    return request.config.stash.setdefault(LIVED, Counter())


@pytest.hookimpl
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line, whatever the verbosity."""
    total = terminalreporter.config.stash.get(LIVED, Counter())
    if total:
        parts = ", ".join(f"{count} {name}" for name, count in sorted(total.items()))
        terminalreporter.write_line(f"simulated lives contained: {parts}")
