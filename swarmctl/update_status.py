"""What an update's status means to whoever waits for it or looks at it."""

from __future__ import annotations

from typing import Final

from swarmd.model import UpdateState
from swarmd.wire.control import ServiceView

UNDER_WAY: Final = (UpdateState.UPDATING, UpdateState.ROLLBACK_STARTED)
HALTED: Final = (UpdateState.PAUSED, UpdateState.ROLLBACK_PAUSED)
_ROLLING_BACK: Final = (UpdateState.ROLLBACK_STARTED, UpdateState.ROLLBACK_PAUSED)


def update_in_words(view: ServiceView) -> str:
    """`2 of 6 updated, 1 failed`; empty where no update is under way or halted."""
    status = view.service.update_status
    if status is None or status.state not in UNDER_WAY + HALTED:
        return ""
    verb = "rolled back" if status.state in _ROLLING_BACK else "updated"
    total = max(status.total, view.outdated)
    done = max(0, total - view.outdated - len(status.failed))
    return f"{done} of {total} {verb}" + (f", {len(status.failed)} failed" if status.failed else "")
