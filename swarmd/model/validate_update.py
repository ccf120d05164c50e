"""The validity of update and rollback settings: nothing, or `Invalid` with the field."""

from __future__ import annotations

import math
from typing import Final

from swarmd.errors import Invalid
from swarmd.model.checks import check_duration, check_integer
from swarmd.model.modes import UpdateConfig

PARALLELISM_MAX: Final = 1_000_000


def check_update_config(config: UpdateConfig, path: str, what: str) -> None:
    """Raise `Invalid` unless slots could be moved by it. `what` is `update` or `rollback`."""
    check_integer(config.parallelism, f"{path}.parallelism", f"the {what} parallelism", maximum=PARALLELISM_MAX)
    check_duration(config.delay_s, f"{path}.delay_s", f"the {what} delay")
    check_duration(config.monitor_s, f"{path}.monitor_s", f"the time that a new task is watched in a{_n(what)} {what}")
    check_duration(
        config.progress_timeout_s, f"{path}.progress_timeout_s", f"the progress timeout of a{_n(what)} {what}"
    )
    ratio = config.max_failure_ratio
    if not math.isfinite(ratio) or not 0 <= ratio <= 1:
        raise Invalid(
            f"the maximum failure ratio is 0 to 1, not {ratio:g}",
            field=f"{path}.max_failure_ratio",
            hint="0.25 is a quarter",
        )


def _n(what: str) -> str:
    return "n" if what[0] in "aeiou" else ""
