"""`make chaos`: real managers under faults for a while; whatever they promised is then held against what they did.

Prints one line a finding and leaves history, schedule and logs behind when there is one. Needs root.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec

from swarmd.errors import SwarmError
from tests.chaos.check import problems
from tests.chaos.clients import LABEL, REGISTERS, Clients, defects
from tests.chaos.history import OK, REFUSED, UNKNOWN, Call, Held, save
from tests.chaos.members import Group, Manager
from tests.chaos.nemesis import Nemesis
from tests.chaos.network import Network
from tests.chaos.schedule import DEFAULT_FAULTS, FAULTS, Step, schedule
from tests.chaos.tools import chaos_tools_missing
from tests.e2e.machines import Failed, wait_until

SETTLE_S_MAX: Final = 60.0
"""Once all is healed, every manager serves writes and holds what the others hold within this."""
CALL_S_MAX: Final = 35.0
OPS_PER_S: Final = 60.0
PER_MANAGER: Final = 3
NAMES_AT_ONCE: Final = 200


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do."""

    seed: int
    seconds: float
    managers: int
    faults: tuple[str, ...] = DEFAULT_FAULTS

    def steps(self) -> tuple[Step, ...]:
        """The faults and their times."""
        return schedule(self.seed, managers=self.managers, seconds=self.seconds, faults=self.faults)

    @property
    def command(self) -> str:
        """What runs it again."""
        faults = "" if self.faults == DEFAULT_FAULTS else f" FAULTS={','.join(self.faults)}"
        return f"make chaos SEED={self.seed} SECONDS={self.seconds:g} MANAGERS={self.managers}{faults}"


class Run:
    """One run, in `root`. `problems` is what it found."""

    def __init__(self, plan: Plan, root: Path) -> None:
        self.plan = plan
        self.root = root
        self.problems: list[str] = []
        self.figures: dict[str, Any] = {}
        self.network = Network(plan.managers)
        self.group = Group(root, self.network, plan.faults)
        sockets = {manager.number: manager.socket for manager in self.group.managers}
        self.clients = Clients(sockets, seed=plan.seed, per_manager=PER_MANAGER, per_second=OPS_PER_S)
        self.nemesis = Nemesis(self.group, lambda: time.monotonic() - self.clients.epoch)

    def go(self) -> None:
        """From nothing to nothing but `root`."""
        try:
            self.network.open()
            self.group.start()
            self._torment()
            held = self._settle()
            began = time.monotonic()
            self.problems += problems(self.clients.calls, held)
            self.figures["judged_s"] = round(time.monotonic() - began, 1)
            self._stop_and_verify()
        except (Failed, SwarmError) as failure:
            # The history may say why.
            self.problems += [str(failure), *problems(list(self.clients.calls), ())]
        finally:
            self.clients.stop(0)
            self.group.destroy()
            self.network.close()
            self._tell_figures()

    def _torment(self) -> None:
        self.clients.create_registers()
        self.clients.start()
        try:
            self.nemesis.run(self.plan.steps(), self.plan.seconds)
        finally:
            self.nemesis.heal()

    def _settle(self) -> list[Held]:
        """Until a write through each manager succeeds and all hold the same."""
        healed = self.nemesis._clock()
        self._wait(lambda: not self._silent_since(healed), lambda: f"no write through {self._silent_since(healed)}")
        if not self.clients.stop(CALL_S_MAX):
            raise Failed("a client's call did not end")
        self._wait(lambda: len(set(self._indexes())) == 1, lambda: f"applied indexes: {self._indexes()}")
        self.figures["settled_s"] = round(self.nemesis._clock() - healed, 1)
        return [self._held(manager) for manager in self.group.managers]

    def _wait(self, condition: Any, detail: Any) -> None:
        def look() -> bool:
            self.group.keep_up()
            return bool(condition())

        wait_until(look, SETTLE_S_MAX, "all was healed, and not all is well", detail)

    def _silent_since(self, moment: float) -> set[int]:
        wrote = {c.manager for c in list(self.clients.calls) if c.is_change and c.outcome == OK and c.began > moment}
        return set(self.network.numbers) - wrote

    def _indexes(self) -> list[int | None]:
        told = [manager.asked() for manager in self.group.managers]
        return [status.applied_index if status else None for status in told]

    def _held(self, manager: Manager) -> Held:
        """What it has of everything that was ever asked for, also of what was refused."""
        names = [f"register-{key}" for key in REGISTERS]
        names += [call.key for call in self.clients.calls if call.kind == "create"]
        values, versions = {}, {}
        for at in range(0, len(names), NAMES_AT_ONCE):
            for view in manager.services(tuple(names[at : at + NAMES_AT_ONCE])):
                key = view.service.spec.name.removeprefix("register-")
                values[key] = int(view.service.spec.labels[LABEL])
                if key in REGISTERS:
                    versions[key] = view.service.spec_version
        status = manager.asked()
        if status is None:
            raise Failed(f"{manager.name} does not answer in the end")
        return Held(
            manager=manager.number,
            index=status.applied_index,
            digest=status.digest.hex(),
            values=values,
            versions=versions,
        )

    def _stop_and_verify(self) -> None:
        self.problems += self.group.stop()
        found = {}
        for manager in self.group.managers:
            try:
                verified = manager.verify()
            except Failed as failure:
                self.problems.append(str(failure))
                continue
            content = (verified.digest, verified.state_hash)
            other = found.setdefault(verified.state_index, (manager.name, content))
            if other[1] != content:
                self.problems.append(f"{manager.name} and {other[0]} verify differently at {verified.state_index}")

    # -- what is told -----------------------------------------------------------------------------------------------

    def _tell_figures(self) -> None:
        calls = list(self.clients.calls)
        self.problems += defects(calls)
        if "disk" not in self.plan.faults:
            self.problems += [told for manager in self.group.managers for told in manager.ended_by_itself]
        outcomes = Counter(call.outcome for call in calls if call.is_change)
        self.figures |= {
            "seed": self.plan.seed,
            "managers": self.plan.managers,
            "seconds": self.plan.seconds,
            "faults": dict(Counter(step.fault for step in self.plan.steps())),
            "calls": len(calls),
            "changes": {kind: outcomes[kind] for kind in (OK, REFUSED, UNKNOWN)},
            "reads": dict(Counter(call.outcome for call in calls if call.kind == "read")),
            "longest_s_without_write": longest_gap_s(calls),
            "daemons_ended_by_themselves": sum(len(m.ended_by_itself) for m in self.group.managers),
            "problems": len(self.problems),
        }
        save(self.root / "history.jsonl", calls)
        steps = "\n".join(map(str, self.plan.steps()))
        done = "\n".join(self.nemesis.told)
        found = "\n".join(self.problems)
        (self.root / "run.txt").write_text(f"{self.plan.command}\n\n{steps}\n\n{done}\n\n{found}\n")


def longest_gap_s(calls: list[Call]) -> float:
    """Between two acknowledged changes, whoever made them."""
    ends = sorted(call.ended for call in calls if call.is_change and call.outcome == OK)
    return round(max((later - earlier for earlier, later in pairwise([0.0, *ends])), default=0.0), 2)


def chaos(plan: Plan, *, keep: bool = False) -> Run:
    """Do it. What the run leaves behind is removed unless it found something, or `keep` says so."""
    root = Path(tempfile.mkdtemp(prefix="chaos-"))
    run = Run(plan, root)
    try:
        run.go()
    finally:
        if not (keep or run.problems or sys.exc_info()[0]):
            shutil.rmtree(root)
    return run


def main() -> int:
    """Exit 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--managers", type=int, choices=(3, 5), default=3)
    parser.add_argument("--faults", default=",".join(DEFAULT_FAULTS))
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    missing = chaos_tools_missing()
    if os.geteuid() != 0 or missing:
        what = f"missing: {', '.join(missing)}" if missing else "network namespaces need root"
        print(
            f"Error: {what}\nHint: as root, on Debian: apt-get install nftables iproute2 e2fsprogs libfaketime",
            file=sys.stderr,
        )
        return 2
    faults = FAULTS if options.faults == "all" else tuple(fault for fault in options.faults.split(",") if fault)
    plan = Plan(seed=options.seed, seconds=options.seconds, managers=options.managers, faults=faults)
    try:
        steps = plan.steps()
    except ValueError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    print(plan.command, *steps, sep="\n", flush=True)
    run = chaos(plan, keep=options.keep)
    print(msgspec.json.encode(run.figures).decode(), *run.problems, sep="\n")
    if run.root.exists():
        print(f"history, schedule and logs: {run.root}\nagain: {plan.command}")
    return 1 if run.problems else 0


if __name__ == "__main__":
    sys.exit(main())
