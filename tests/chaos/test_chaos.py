"""Three real managers under two minutes of faults. `SWARM_CHAOS_S` says how long (at most 180: pytest gives up after
five minutes; `make chaos` does not), `SWARM_CHAOS_SEED` which faults."""

from __future__ import annotations

import os

import pytest

from tests.chaos.history import OK
from tests.chaos.run import Plan, chaos

SECONDS = float(os.environ.get("SWARM_CHAOS_S", "120"))
SEED = int(os.environ.get("SWARM_CHAOS_SEED", "1"))


@pytest.mark.slow
@pytest.mark.needs_chaos_tools
def test_managers_keep_every_promise_under_faults() -> None:
    plan = Plan(seed=SEED, seconds=SECONDS, managers=3)
    run = chaos(plan)
    told = "\n".join(run.problems)
    assert not run.problems, f"{told}\nhistory, schedule and logs: {run.root}\nagain: {plan.command}"
    assert run.figures["changes"][OK] > SECONDS / 10, "hardly anything was written: what was shown by this?"
