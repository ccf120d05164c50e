"""The swarm that is attacked, and what must be true of it after every attack."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmctl.command_line import run
from swarmctl.environment import Environment
from swarmd.pki import Authority
from tests.e2e.machines import Failed, Machine, Swarm, wait_until
from tests.threats.attacker import Known, Pair, copied_pair, logs, read_secrets

SERVICE = ("service", "create", "--name", "web", "--image", "sleep", "--replicas", "4", "--wait",
           "--command", "sleep", "--args", "100000")  # fmt: skip


DEBUG = ("--log-level", "debug")
"""What is told at most."""


class Quick(Machine):
    """A machine whose `swarmctl` runs in this process: it is asked for so often."""

    def ctl(self, *arguments: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        out, err = io.StringIO(), io.StringIO()
        status = run(("-s", str(self.socket), *arguments), Environment(out=out, err=err))
        if check and status != 0:
            raise Failed(f"swarmctl {' '.join(arguments)}: exit {status}: {err.getvalue().strip()}")
        return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


class Target(Swarm):
    """Three managers and a worker, with a service; each daemon has a runtime directory of its own."""

    known: Known
    writes = 0

    def add(self, name: str, *arguments: str) -> Machine:
        runtime = self.root / f"{name}.run"
        runtime.mkdir(mode=0o700, exist_ok=True)
        machine = Quick(self.root, name, env={"XDG_RUNTIME_DIR": str(runtime)})
        self.machines.append(machine)
        machine.start(*arguments)
        return machine

    def begin(self) -> None:
        self.bootstrap(3, flags=DEBUG)
        self.join("node-4", role="worker", flags=DEBUG)
        last = self.machines[2]
        last.stop()
        self.known = read_secrets(last)
        last.start()
        last.wait_ready()
        self.wait_voters(3)
        self.machines[0].ctl(*SERVICE)
        self.ports = [machine.port() for machine in self.managers]
        self.pids = {machine.name: machine.process.pid for machine in self.machines if machine.process}

    @property
    def managers(self) -> list[Machine]:
        return self.machines[:3]

    @property
    def worker(self) -> Machine:
        return self.machines[3]

    @property
    def authority(self) -> Authority:
        """The swarm's own, as a thief of everything would have it."""
        return Authority(self.known.root, self.known.root_key)

    def worker_pair(self) -> Pair:
        return copied_pair(self.worker)

    def manager_pair(self) -> Pair:
        """A manager's that does not lead now."""
        leader = self.leader()
        return copied_pair(next(machine for machine in self.managers if machine is not leader))

    def node_ids(self) -> set[str]:
        return {node["id"] for node in self.machines[0].json("node", "ls")}

    def secrets(self) -> list[str]:
        """What may be in no log: the secret part of each token, and the body of the root's key."""
        tokens = self.machines[0].json("cluster", "inspect")["root_ca"]["join_tokens"]
        return [token[-25:] for token in tokens.values()] + self.known.root_key.decode().splitlines()[1:-1]

    def check(self) -> None:
        """Managers are up and the same processes, every node has its session, writes are accepted, nothing is told."""
        assert {m.name: m.process.pid for m in self.machines[:4] if m.process and m.is_up} == self.pids
        self.writes += 1
        self.machines[self.writes % 3].ctl("service", "update", "web", "--label", f"write={self.writes}")
        wait_until(self._all_ready, 10, "a node has lost its session")
        for name, text in logs(self.machines).items():
            assert "Traceback" not in text, f"{name}: {text[text.index('Traceback') - 300 :][:2500]}"
            for secret in self.secrets():
                assert secret not in text, f"the log of {name} tells a secret"

    def _all_ready(self) -> bool:
        states = {node["id"]: node["status"]["state"] for node in self.machines[0].json("node", "ls")}
        return all(states[machine.node_id] == "READY" for machine in self.machines[:4])


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """It, for a whole module."""
    target = Target(Path(tmp_path_factory.mktemp("target")))
    try:
        target.begin()
        yield target
    finally:
        target.stop()
    assert target.strays() == []


@pytest.fixture(autouse=True)
def unharmed(request: pytest.FixtureRequest) -> Iterator[None]:
    """What every row of the table asks for besides."""
    yield
    if "target" in request.fixturenames:
        request.getfixturevalue("target").check()
