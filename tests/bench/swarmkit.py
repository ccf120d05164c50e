"""What SwarmKit's own code needed for the same work, beside which ours are printed.

Its Go benchmarks and a three-manager swarm, run once on a 2-core machine like those that ours are run on: a yardstick
for the size of things, not a race.
"""

from __future__ import annotations

from typing import Any, Final

FIGURES: Final[dict[tuple[str, int | str], float | str]] = {
    ("raft.tx_per_s", 1): 440,
    ("raft.tx_per_s", 64): 445,
    ("raft.p50_ms", 1): 1.5,
    ("raft.p50_ms", 64): 116,
    ("raft.objects_per_s", 8): 5_100,
    ("raft.failover_s", "SIGKILL"): "10-20",
    ("store.node_create_us", ""): "12-15",
    ("store.node_update_us", ""): "14-23",
    ("store.node_get_us", ""): 1.6,
    ("store.node_find_by_name_us", ""): 0.6,
}
"""By benchmark, and by writers or way of losing the leader."""


def beside(bench: str, parameters: dict[str, Any]) -> dict[str, float | str]:
    """What to add to a line: `{"swarmkit": ...}`, or nothing."""
    figure = FIGURES.get((bench, parameters.get("writers") or parameters.get("way") or ""))
    return {} if figure is None else {"swarmkit": figure}
