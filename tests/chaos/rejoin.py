"""How long a follower that was cut off needs, once it is heard again, until it has applied what the leader had then.

`python -m tests.chaos.rejoin [--cut 8] [--trials 5]`: one JSON object with the seconds of each trial. Needs root.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

from swarmctl.client import Client
from swarmctl.environment import Environment
from swarmd.errors import SwarmError
from swarmd.wire import control, methods
from tests.chaos.clients import holding
from tests.chaos.members import Group
from tests.chaos.network import Network, unheard_between
from tests.e2e.machines import wait_until

REJOIN_S_MAX: Final = 60.0
WRITE_EVERY_S: Final = 0.2
REST_S: Final = 2.0


def trial(group: Group, cut_s: float) -> float:
    """Cut one follower off, heal, and time it."""
    leader = group.leader()
    assert leader is not None
    follower = next(m for m in group.managers if m.number != leader)
    others = [m.number for m in group.managers if m is not follower]
    group.network.hear(unheard_between([follower.number], others))
    time.sleep(cut_s)
    group.network.hear({})
    healed = time.monotonic()
    asked = group[others[0]].asked()
    assert asked is not None

    def has_caught_up() -> bool:
        status = follower.asked()
        return status is not None and status.applied_index >= asked.applied_index

    wait_until(has_caught_up, REJOIN_S_MAX, "the follower did not come back", lambda: follower.tail())
    return time.monotonic() - healed


def write(socket: Path, is_over: threading.Event) -> None:
    """Slowly, so that the cut follower lacks something."""
    with Client(socket, Environment()) as client:
        number = 0
        while not is_over.wait(WRITE_EVERY_S):
            number += 1
            try:
                client.change(methods.SERVICE_CREATE, control.CreateService(spec=holding(f"written-{number}", number)))
            except SwarmError:
                continue


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cut", type=float, default=8.0)
    parser.add_argument("--trials", type=int, default=5)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="rejoin-"))
    network = Network(3)
    group = Group(root, network, ())
    is_over = threading.Event()
    try:
        network.open()
        group.start()
        leader = group.leader()
        assert leader is not None
        threading.Thread(target=write, args=(group[leader].socket, is_over), daemon=True).start()
        found = []
        for _ in range(options.trials):
            time.sleep(REST_S)
            found.append(round(trial(group, options.cut), 2))
        line = {"cut_s": options.cut, "rejoined_s": found, "median": statistics.median(found), "max": max(found)}
        print(json.dumps(line))
    finally:
        is_over.set()
        group.destroy()
        network.close()
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
