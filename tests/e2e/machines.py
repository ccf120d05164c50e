"""Machines of a swarm as real processes on this one: a daemon each, its own state directory, loopback.

What the demo, the end-to-end tests and the benchmarks share. Everything is checked against /proc, not against what the
swarm says of itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

T = TypeVar("T")

START_S_MAX: Final = 30.0
STOP_S_MAX: Final = 12.0


class Failed(Exception):
    """A step did not hold; the message is what a reader should see."""


class TaskProcess:
    """A process that runs a task, found in /proc by the environment the executor gave it."""

    def __init__(self, pid: int, started: int, task_id: str, node_id: str, service: str) -> None:
        self.pid = pid
        self.started = started
        self.task_id = task_id
        self.node_id = node_id
        self.service = service

    @property
    def key(self) -> tuple[str, int, int]:
        """The same key later means the very same process."""
        return (self.task_id, self.pid, self.started)


def task_processes(service: str | None = None) -> list[TaskProcess]:
    """Every process on this machine that leads a task: the one whose parent carries no task id of its own."""
    found: dict[int, TaskProcess] = {}
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = dict(
                line.split("=", 1)
                for line in (entry / "environ").read_text(errors="replace").split("\0")
                if "=" in line
            )
            stat = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if "SWARM_TASK_ID" not in environment or stat[0] == "Z":
            continue
        if service is not None and environment.get("SWARM_SERVICE_NAME") != service:
            continue
        pid = int(entry.name)
        parents[pid] = int(stat[1])
        found[pid] = TaskProcess(
            pid,
            int(stat[19]),
            environment["SWARM_TASK_ID"],
            environment.get("SWARM_NODE_ID", ""),
            environment.get("SWARM_SERVICE_NAME", ""),
        )
    return [task for pid, task in sorted(found.items()) if parents[pid] not in found]


class Machine:
    """One machine: a daemon, its supervisors and its tasks."""

    module = "swarmd"
    """What is run as the daemon."""

    def __init__(self, root: Path, name: str, *, env: dict[str, str] | None = None) -> None:
        self.name = name
        self.state_dir = root / name
        self.socket = self.state_dir / "control.sock"
        self.log = root / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.env = env or {}
        self.inside: list[str] = []
        """What goes before the daemon's command: the namespace it runs in."""
        self.arguments: list[str] = []

    # -- life -----------------------------------------------------------------------------------------------------

    def start(self, *arguments: str) -> None:
        """Start the daemon; the same arguments as last time if none are given."""
        if arguments or not self.arguments:
            self.arguments = list(arguments)
        command = [*self.inside, sys.executable, "-m", self.module, "-d", str(self.state_dir), "--hostname", self.name]
        if "--listen-control-api" not in self.arguments:
            command += ["--listen-control-api", str(self.socket)]
        if "--executor" not in self.arguments:
            command += ["--executor", "process"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command + self.arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **self.env},
            )

    @property
    def is_up(self) -> bool:
        """Whether the daemon's process is alive."""
        return self.process is not None and self.process.poll() is None

    def kill_daemon(self) -> None:
        """kill -9 the daemon alone; tasks go on."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def kill(self) -> None:
        """The machine loses power: daemon, supervisors and tasks, kill -9."""
        self.kill_daemon()
        for pid in self.other_pids():
            _signal(pid, signal.SIGKILL)
        wait_until(lambda: not self.other_pids(), 10, f"the processes of {self.name} do not die")

    def stop(self) -> int:
        """SIGTERM the daemon; returns its exit status."""
        self.terminate()
        return self.wait_stopped()

    def terminate(self) -> None:
        """SIGTERM, once: a second one means "at once"."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def wait_stopped(self) -> int:
        """The exit status of a daemon that was told to stop."""
        if self.process is None:
            return 0
        try:
            return self.process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} did not stop within {STOP_S_MAX:.0f} s of SIGTERM") from None

    def other_pids(self) -> list[int]:
        """Supervisors and task processes of this machine, found by their command and environment."""
        mark = str(self.state_dir).encode()
        own = self.process.pid if self.process is not None else 0
        node_id = self._node_id_on_disk()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) in (own, os.getpid()):
                continue
            try:
                text = (entry / "cmdline").read_bytes()
                environment = (entry / "environ").read_bytes()
                zombie = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
            except OSError:
                continue
            is_task = b"SWARM_TASK_ID=" in environment and (
                node_id and f"SWARM_NODE_ID={node_id}".encode() in environment.split(b"\0")
            )
            is_supervisor = mark in text and b"supervisor.sh" in text
            if not zombie and (is_task or is_supervisor):
                found.append(int(entry.name))
        return found

    def _node_id_on_disk(self) -> str:
        from cryptography import x509
        from cryptography.x509.oid import NameOID

        try:
            pem = (self.state_dir / "certificates" / "swarm-node.crt").read_bytes()
        except OSError:
            return ""
        subject = x509.load_pem_x509_certificate(pem).subject
        return str(subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)

    @property
    def node_id(self) -> str:
        """The node's id, from its certificate."""
        return self._node_id_on_disk()

    # -- talking --------------------------------------------------------------------------------------------------

    def ctl(self, *arguments: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run `swarmctl` against this machine's socket."""
        done = subprocess.run(
            [sys.executable, "-m", "swarmctl", "-s", str(self.socket), *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode != 0:
            raise Failed(f"swarmctl {' '.join(arguments)}: exit {done.returncode}: {done.stderr.strip()}")
        return done

    def json(self, *arguments: str) -> Any:
        """The JSON that `swarmctl ... -o json` prints."""
        return json.loads(self.ctl(*arguments, "-o", "json").stdout)

    def status(self) -> dict[str, Any] | None:
        """`swarmctl status`, or None while nobody answers."""
        done = self.ctl("status", "-o", "json", check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def wait_ready(self) -> None:
        """Until the daemon answers, its agent has a session, and (for a manager) a leader is known."""

        def is_ready() -> bool:
            if not self.is_up:
                raise Failed(f"{self.name} ended at start, see {self.log}:\n{self.tail()}")
            status = self.status()
            if not status or status.get("session") != "connected":
                return False
            return bool(status.get("leader_node_id")) or not status.get("is_manager")

        wait_until(is_ready, START_S_MAX, f"{self.name} is not ready", lambda: self.tail())

    def tail(self, lines: int = 15) -> str:
        """The end of the daemon's log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"

    def port(self) -> int:
        """The port the daemon's listener is bound to."""
        status = self.status() or {}
        addresses = status.get("remote_addresses") or []
        match = re.search(r":(\d+)$", addresses[0]) if addresses else None
        if match is None:
            raise Failed(f"{self.name} tells no address")
        return int(match[1])


class Swarm:
    """Some machines that form one swarm."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.machines: list[Machine] = []

    def bootstrap(self, managers: int, *, flags: tuple[str, ...] = ()) -> None:
        """Start `managers` managers on free loopback ports."""
        first = self.add("node-1", "--listen-remote-api", "127.0.0.1:0", *flags)
        first.wait_ready()
        for number in range(2, managers + 1):
            self.join(f"node-{number}", role="manager", flags=flags)
        self.wait_voters(managers)

    def add(self, name: str, *arguments: str) -> Machine:
        """Start a machine with these flags."""
        machine = Machine(self.root, name)
        self.machines.append(machine)
        machine.start(*arguments)
        return machine

    def join(self, name: str, *, role: str, flags: tuple[str, ...] = (), wait: bool = True) -> Machine:
        """Start a machine that joins with a token."""
        door = next(m for m in self.machines if m.is_up)
        machine = self.add(
            name,
            "--listen-remote-api",
            "127.0.0.1:0",
            "--join-addr",
            f"127.0.0.1:{door.port()}",
            "--join-token",
            self.token(role),
            *flags,
        )
        if wait:
            machine.wait_ready()
        return machine

    def token(self, role: str) -> str:
        """The join token for this role."""
        return str(self.any_up().json("cluster", "inspect")["root_ca"]["join_tokens"][role])

    def any_up(self) -> Machine:
        """A machine whose daemon is alive."""
        return next(m for m in self.machines if m.is_up)

    def leader(self, timeout: float = 30) -> Machine:
        """The machine that leads, as a majority of those alive say."""

        def find() -> Machine | None:
            votes: dict[str, int] = {}
            statuses = [(m, m.status()) for m in self.machines if m.is_up]
            for _, status in statuses:
                if status and status.get("leader_node_id"):
                    votes[status["leader_node_id"]] = votes.get(status["leader_node_id"], 0) + 1
            for machine, status in statuses:
                if status and status.get("is_leader") and votes.get(status["node_id"], 0) * 2 > len(statuses):
                    return machine
            return None

        return wait_for(find, timeout, "no leader")

    def wait_voters(self, count: int) -> None:
        """Until `count` managers vote."""

        def enough() -> bool:
            nodes = self.any_up().json("node", "ls")
            managers = [n["manager"] for n in nodes if n.get("manager")]
            return sum(1 for m in managers if m.get("is_voter", True)) == count

        wait_until(enough, START_S_MAX, f"there are not {count} voting managers")

    def processes(self, service: str) -> list[TaskProcess]:
        """The service's processes on these machines; other swarms on this computer have theirs."""
        nodes = {machine.node_id for machine in self.machines}
        return [process for process in task_processes(service) if process.node_id in nodes]

    def stop(self) -> None:
        """Stop every daemon, then whatever runs of their tasks."""
        for machine in self.machines:
            machine.terminate()
        for machine in self.machines:
            try:
                machine.wait_stopped()
            except Failed:
                machine.kill_daemon()
        for machine in self.machines:
            for pid in machine.other_pids():
                _signal(pid, signal.SIGKILL)

    def strays(self) -> list[int]:
        """Processes of this swarm that are still there."""
        return [pid for m in self.machines for pid in m.other_pids()] + [
            m.process.pid for m in self.machines if m.process is not None and m.is_up
        ]


def wait_until(
    condition: Callable[[], bool], timeout: float, complaint: str, detail: Callable[[], str] | None = None
) -> float:
    """Poll a condition of other processes; returns the seconds it took. Raises `Failed`."""
    began = time.monotonic()
    while True:
        if condition():
            return time.monotonic() - began
        if time.monotonic() - began > timeout:
            more = f"\n{detail()}" if detail else ""
            raise Failed(f"{complaint} after {timeout:.0f} s{more}")
        time.sleep(0.05)


def wait_for(find: Callable[[], T | None], timeout: float, complaint: str) -> T:
    """Poll until `find` finds something."""
    found: list[T] = []

    def look() -> bool:
        result = find()
        if result is not None:
            found.append(result)
        return result is not None

    wait_until(look, timeout, complaint)
    return found[0]


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
