"""`make bench`, or `make bench ONLY=raft`: one JSON object a line; real disk, real processes.

Medians of several rounds; compare only figures of one run, the machine is shared and noisy.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.bench import containers
from tests.bench import failover as failing_over
from tests.bench import joins as joining
from tests.bench import large as many_tasks
from tests.bench import placements as placing
from tests.bench.security import NODES, authorisation_us
from tests.bench.swarmkit import beside
from tests.e2e.machines import Failed, Machine, Swarm, wait_until

ROUNDS: Final = 5
WINDOW_S: Final = 2.0


def tell(bench: str, value: float, unit: str, **parameters: Any) -> None:
    """One line."""
    line = {"bench": bench, **parameters, "value": round(value, 4), "unit": unit, **beside(bench, parameters)}
    print(json.dumps(line), flush=True)


@contextmanager
def steady(swarm: Swarm, bench: str) -> Iterator[None]:
    """Tells how often the leader changed meanwhile: load alone must never cost a reign."""
    term = _term(swarm)
    yield
    tell(f"{bench}.leader_changes", _term(swarm) - term, "terms", managers=len(swarm.machines))


def _term(swarm: Swarm) -> int:
    return int((swarm.leader().status() or {}).get("term", 0))


class LoadMachine(Machine):
    """A machine whose daemon also runs writers."""

    def start(self, *arguments: str) -> None:
        """Start the load-taking manager: (listen, join address, token)."""
        if arguments or not self.arguments:
            self.arguments = list(arguments)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.member", str(self.state_dir), self.name, *self.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("ab"),
            start_new_session=True,
        )

    def load(self, **command: Any) -> dict[str, Any]:
        """Run one load in this process and return its figures."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"{self.name} ended under load, see {self.log}:\n{self.tail()}")
        return dict(json.loads(line))


def load_swarm(root: Path, managers: int) -> Swarm:
    """Managers that take load."""
    swarm = Swarm(root)
    for number in range(1, managers + 1):
        machine = LoadMachine(root, f"node-{number}")
        if number == 1:
            machine.start("127.0.0.1:0", "", "")
        else:
            machine.start("127.0.0.1:0", f"127.0.0.1:{swarm.machines[0].port()}", swarm.token("manager"))
        swarm.machines.append(machine)
        machine.wait_ready()
    swarm.wait_voters(managers)
    return swarm


def floor(root: Path) -> None:
    """What this machine costs at least: disk, Python, a bare echo. Other figures mean something beside these."""
    subprocess.run([sys.executable, str(Path(__file__).parent / "floor.py"), str(root)], check=True)


def raft(root: Path) -> None:
    """Writes through the product's store: three processes, mutual TLS, fsync."""
    swarm = load_swarm(root, 3)
    try:
        leader = swarm.leader()
        assert isinstance(leader, LoadMachine)
        with steady(swarm, "raft"):
            write(leader)
        compare_digests(swarm)
        floor(root)
    finally:
        swarm.stop()


def write(leader: LoadMachine) -> None:
    """One object a transaction by few and by many writers; many objects a transaction."""
    for writers in (1, 8, 64, 256):
        results = [leader.load(writers=writers, seconds=WINDOW_S, objects=1) for _ in range(ROUNDS)]
        common = {"managers": 3, "writers": writers}
        tell("raft.tx_per_s", statistics.median(r["rate"] for r in results), "1/s", **common)
        tell("raft.p50_ms", statistics.median(r["p50_ms"] for r in results), "ms", **common)
        tell("raft.p99_ms", statistics.median(r["p99_ms"] for r in results), "ms", **common)
        tell("raft.leader_cpu_us", statistics.median(r["cpu_us"] for r in results), "us", **common)
    results = [leader.load(writers=8, seconds=WINDOW_S, objects=200) for _ in range(ROUNDS)]
    rate = statistics.median(r["rate"] for r in results) * 200
    tell("raft.objects_per_s", rate, "1/s", managers=3, writers=8, objects=200)


def compare_digests(swarm: Swarm) -> None:
    """kill -9 one follower, start it again: all three must have applied the very same history."""
    leader = swarm.leader()
    follower = next(m for m in swarm.machines if m is not leader)
    follower.kill()
    follower.start()
    follower.wait_ready()

    def equal() -> bool:
        statuses = [m.status() or {} for m in swarm.machines]
        return len({(s.get("applied_index"), s.get("digest")) for s in statuses}) == 1

    wait_until(equal, 60, "the digests of the three managers differ")
    tell("raft.digests_equal", 1, "bool", managers=3)


def clients(root: Path) -> None:
    """Changes through the Unix socket, by client processes of their own: the leader's socket, and a follower's."""
    swarm = Swarm(root)
    try:
        swarm.bootstrap(3)
        leader = swarm.leader()
        follower = next(m for m in swarm.machines if m is not leader)
        with steady(swarm, "clients"):
            for where, machine in (("leader", leader), ("follower", follower)):
                for count in (1, 8, 32):
                    latencies = client_load(machine, count, f"{where}-{count}")
                    common = {"managers": 3, "clients": count, "socket": where}
                    tell("clients.tx_per_s", len(latencies) / WINDOW_S, "1/s", **common)
                    tell("clients.p50_ms", latencies[len(latencies) // 2] * 1e3, "ms", **common)
                    tell("clients.p99_ms", latencies[int(len(latencies) * 0.99)] * 1e3, "ms", **common)
    finally:
        swarm.stop()


def client_load(machine: Machine, count: int, name: str) -> list[float]:
    """All latencies of `count` processes that write side by side, sorted, in seconds."""
    command = [sys.executable, "-m", "tests.bench.client", str(machine.socket)]
    processes = [
        subprocess.Popen(
            [*command, f"{name}-{number}", str(WINDOW_S)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for number in range(count)
    ]
    for process in processes:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise Failed("a client did not begin")
    answers = [process.communicate()[0] for process in _all_told(processes)]
    return sorted(latency for answer in answers for latency in json.loads(answer))


def _all_told(processes: list[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return processes


def failover(root: Path) -> None:
    """The leader is killed, frozen, told to stop, or cut off: how long nobody's writes are accepted."""
    for line in failing_over.compare(root):
        print(json.dumps(line), flush=True)


def large(root: Path) -> None:
    """A manager with 100,000 tasks: stalls, restart, memory, collector, a new member that is sent all of it."""
    for line in many_tasks.measure(root):
        print(json.dumps(line), flush=True)


def placements(root: Path) -> None:
    """100,000 tasks placed on 1,000 nodes, on three managers' disks."""
    for line in placing.measure(root):
        print(json.dumps(line), flush=True)


def service(root: Path) -> None:
    """From `service create` until every replica runs as a process."""
    swarm = Swarm(root)
    try:
        swarm.bootstrap(3)
        with steady(swarm, "service"):
            for replicas in (4, 50):
                run_replicas(swarm, replicas)
    finally:
        swarm.stop()


def run_replicas(swarm: Swarm, replicas: int) -> None:
    """Create, wait until all run, remove."""
    name = f"s{replicas}"
    began = time.monotonic()
    machine = swarm.leader()
    machine.ctl(
        *("service", "create", "--name", name, "--image", "sleep", "--replicas", str(replicas)),
        *("--command", "sleep", "--args", "1000", "--no-wait"),
    )
    wait_until(lambda: len(swarm.processes(name)) == replicas, 120, f"{replicas} replicas do not run")
    tell("service.running_s", time.monotonic() - began, "s", replicas=replicas, executor="process")
    machine.ctl("service", "rm", name)
    wait_until(lambda: not swarm.processes(name), 60, "the replicas do not go")


def moved(root: Path) -> None:
    """A worker's machine loses power: until its tasks run elsewhere (due within 3.5 heartbeats of 5 s, and 2 s)."""
    swarm = Swarm(root)
    try:
        swarm.bootstrap(3)
        worker = swarm.join("node-4", role="worker")
        swarm.leader().ctl(
            *("service", "create", "--name", "moved", "--image", "sleep", "--replicas", "8"),
            *("--command", "sleep", "--args", "1000", "--no-wait"),
        )
        wait_until(lambda: len(swarm.processes("moved")) == 8, 60, "8 replicas do not run")
        node_id = worker.node_id
        lost = sum(1 for process in swarm.processes("moved") if process.node_id == node_id)
        worker.kill()
        began = time.monotonic()
        wait_until(lambda: len(swarm.processes("moved")) == 8, 60, "the tasks were not replaced")
        tell("service.moved_s", time.monotonic() - began, "s", tasks=lost, heartbeat_s=5)
    finally:
        swarm.stop()


def docker(root: Path) -> None:
    """A service of 50 containers against `docker run -d` of the same 50, or why there is none."""
    for line in containers.compare(root):
        print(json.dumps(line), flush=True)


def script(name: str) -> Callable[[Path], None]:
    """A benchmark that is a script of its own."""

    def run(_: Path) -> None:
        command = [sys.executable, str(Path(__file__).parent / f"{name}.py")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for text in process.stdout:
                line = json.loads(text)
                print(json.dumps(line | beside(line["bench"], line)), flush=True)
        if process.returncode:
            raise Failed(f"{name} ended with status {process.returncode}")

    return run


def authorisation(_root: Path) -> None:
    """What every call pays before its handler is entered."""
    for call, value in authorisation_us().items():
        tell("security.authorisation", value, "us/call", call=call, nodes=NODES)


def joins(root: Path) -> None:
    """What a join costs its manager."""
    for line in joining.measure(root):
        tell(**line)


BENCHES: Final[dict[str, Callable[[Path], None]]] = {
    "floor": floor,
    "raft": raft,
    "clients": clients,
    "failover": failover,
    "large": large,
    "placements": placements,
    "service": service,
    "moved": moved,
    "docker": docker,
    "store": script("store"),
    "watch": script("watch"),
    "security": authorisation,
    "joins": joins,
    "scheduler": script("scheduler"),
}


def main(only: list[str]) -> int:
    """Run the named ones, or all."""
    unknown = [name for name in only if name not in BENCHES]
    if unknown:
        print(f"Error: no benchmark {unknown[0]!r}; there are {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    for name in only or list(BENCHES):
        with tempfile.TemporaryDirectory(prefix="swarm-bench-", dir=os.environ.get("BENCH_DIR")) as root:
            BENCHES[name](Path(root))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
