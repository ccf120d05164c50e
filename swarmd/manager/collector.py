"""The garbage collector, told what a manager's memory looks like (performance-raft, rule 4)."""

from __future__ import annotations

import gc
from typing import Final

THRESHOLDS: Final = (50_000, 20, 1000)
"""The state is dicts of untracked structs that die by reference count: collecting often finds nothing and costs."""


def tune() -> None:
    """Call once the state is loaded: what is there now stays for good and is not looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
