"""Where the demo's tasks run: as processes of this machine, or as containers of a Docker engine of the demo's own.

Each world looks at its tasks from outside, in /proc or through the engine, never at what the swarm says of them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import urllib.request
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Final, NamedTuple

from swarmd.executor.docker.plan import NODE_ID_LABEL, SERVICE_NAME_LABEL, TASK_ID_LABEL
from tests.e2e.machines import Failed, Machine, Swarm, wait_for, wait_until
from tests.engine.engine import Engine, EngineFailed
from tests.engine.images import BUSYBOX, NoImage, busybox_image

PROGRAMS: Final = ("dockerd", "docker", "containerd", "runc", "unshare")
ANSWER_S_MAX: Final = 20.0
PAGE: Final = "this is container"


class CannotRun(Exception):
    """This machine has not what the world needs; the message says what, and what to do."""


class Run(NamedTuple):
    """One run of a task. An equal one later is the very same: it was neither restarted nor replaced."""

    task_id: str
    node_id: str
    pid: int
    started: str
    container_id: str = ""


class World(ABC):
    """A swarm, and the tasks that run for it."""

    many: str
    """What its tasks are."""
    ended: str
    """What is true once it was stopped and nothing remains."""
    flags: tuple[str, ...] = ()
    """What daemons are started with."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.swarm = Swarm(root)

    def start(self) -> None:  # noqa: B027 - not every world needs something
        """Start what daemons need. Raises `CannotRun`."""

    @abstractmethod
    def service(self) -> list[str]:
        """What makes `service create` run a web server."""

    @abstractmethod
    def running(self, service: str) -> list[Run]:
        """The service's tasks that run now, on any node of this swarm."""

    def left(self, service: str, live_nodes: set[str]) -> list[Run]:
        """What a removed service may not leave behind."""
        return self.running(service)

    @abstractmethod
    def nothing_left(self, service: str) -> str:
        """How to say that `left` is empty."""

    @abstractmethod
    def check_answer(self, run: Run) -> None:
        """Ask it over HTTP. Raises `Failed` unless it answers with its own page."""

    @abstractmethod
    def kill(self, machine: Machine) -> None:
        """The machine loses power: daemon and tasks, kill -9."""

    def stop(self) -> None:
        """Stop everything, with no regard to tasks that still run."""
        self.swarm.stop()

    def remains(self) -> list[int]:
        """Processes that are there although the world was stopped."""
        return self.swarm.strays()

    def environment(self) -> dict[str, str]:
        """What a shell needs to talk to it."""
        return {"SWARM_SOCKET": str(self.swarm.any_up().socket)}

    def stop_command(self) -> str:
        """What stops it from a shell."""
        return f"kill {self.daemon_pids()} && rm -r {self.root}"

    def daemon_pids(self) -> str:
        """The daemons that are up."""
        return " ".join(str(m.process.pid) for m in self.swarm.machines if m.process is not None and m.is_up)


class Processes(World):
    """Tasks as processes: Python's own web server, each on a free port."""

    many = "processes"
    ended = "all daemons stopped; no process is left"

    def service(self) -> list[str]:
        """Serves this directory."""
        program = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
        arguments = ["--image", "python", "--dir", str(Path(__file__).resolve().parent)]
        return arguments + [f"--command={part}" for part in program]

    def running(self, service: str) -> list[Run]:
        """From /proc."""
        return [Run(p.task_id, p.node_id, p.pid, str(p.started)) for p in self.swarm.processes(service)]

    def nothing_left(self, service: str) -> str:
        """See `World`."""
        return "no process is left"

    def check_answer(self, run: Run) -> None:
        """At the port it was given."""
        port = wait_for(lambda: _listening_port(run.pid), ANSWER_S_MAX, f"process {run.pid} does not listen")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/demo.py", timeout=10) as reply:
            if b"a dead leader" not in reply.read():
                raise Failed(f"process {run.pid} serves something else")

    def kill(self, machine: Machine) -> None:
        """Supervisors too."""
        machine.kill()


class Containers(World):
    """Tasks as containers: busybox's web server. All nodes share one engine, which nobody else has.

    The engine has no bridge: one would change this machine's network, and take `docker0` from an engine that has it. So
    each container has only its own loopback, and is asked there.
    """

    many = "containers"
    ended = "all daemons and the engine stopped; no process is left"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.engine = Engine(root / "engine")
        self.flags = ("--executor", "docker", "--engine-addr", self.engine.address)

    def start(self) -> None:
        """The engine, with the one image."""
        missing = [] if os.geteuid() == 0 else ["root"]
        missing += [program for program in PROGRAMS if shutil.which(program) is None]
        missing += [] if BUSYBOX.exists() else [str(BUSYBOX)]
        if missing:
            raise CannotRun(
                f"EXECUTOR=docker starts a Docker engine of its own, for which is missing: {', '.join(missing)}. "
                "Hint: as root, apt-get install docker.io busybox-static; or leave out EXECUTOR, which needs no Docker"
            )
        try:
            self.engine.start()
            self.engine.load(busybox_image())
        except (EngineFailed, NoImage) as error:
            self.stop()
            reason = str(error).strip().splitlines()[-1]
            raise CannotRun(
                f"no Docker engine can be had: {reason}. "
                f"Hint: its log is {self._log_kept()}; or leave out EXECUTOR, which needs no Docker"
            ) from None

    def service(self) -> list[str]:
        """Each writes a page of its own and serves it."""
        script = f'echo "{PAGE} $(hostname)" >/www/index.html && exec httpd -f -p 80 -h /www'
        arguments = ["--image", "busybox", "--command=sh", "--args=-c", f"--args={script}"]
        # The first process of a container ignores SIGTERM unless it handles it, and httpd does not.
        return [*arguments, "--stop-grace-period", "1s"]

    def running(self, service: str) -> list[Run]:
        """From the engine."""
        return [_run(c) for c in self._containers(service) if c["State"]["Running"]]

    def left(self, service: str, live_nodes: set[str]) -> list[Run]:
        """On live nodes also those that have ended. What died with its machine is for that machine's daemon to remove,
        once it is back: nobody else touches it."""
        everywhere = [(c["State"]["Running"], _run(c)) for c in self._containers(service)]
        return [run for is_running, run in everywhere if is_running or run.node_id in live_nodes]

    def nothing_left(self, service: str) -> str:
        """With those that died, if the engine still has them."""
        dead = len(self._containers(service))
        return "no container is left" + (f" but the {dead} killed ones, which are the dead machine's" if dead else "")

    def check_answer(self, run: Run) -> None:
        """On its loopback."""
        name = run.container_id[:12]
        ask = ("exec", run.container_id, "wget", "-q", "-O", "-", "http://127.0.0.1/")
        page = wait_for(
            lambda: self.engine.docker(*ask, check=False).strip() or None, ANSWER_S_MAX, f"container {name} is silent"
        )
        if page != f"{PAGE} {name}":
            raise Failed(f"container {name} serves something else: {page}")

    def kill(self, machine: Machine) -> None:
        """The daemon first: it must see nothing of its containers' end."""
        running = ("ps", "--quiet", "--filter", f"label={NODE_ID_LABEL}={machine.node_id}")
        machine.kill()
        ids = self.engine.docker(*running).split()
        if ids:
            self.engine.docker("kill", "--signal", "KILL", *ids)
        wait_until(lambda: not self.engine.docker(*running), 10, f"the containers of {machine.name} do not die")

    def stop(self) -> None:
        """The engine too; its log is kept with the daemons'."""
        try:
            self.swarm.stop()
        finally:
            if (self.engine.directory / "log").exists():
                shutil.copy(self.engine.directory / "log", self._log_kept())
            self.engine.stop()

    def remains(self) -> list[int]:
        """Engine, containerd and shims name the directory on their command lines."""
        return super().remains() + _pids_that_mention(f"{self.engine.directory}/")

    def environment(self) -> dict[str, str]:
        """The engine too."""
        return {**super().environment(), "DOCKER_HOST": self.engine.address}

    def stop_command(self) -> str:
        """The engine takes a moment to end, and its files are in use until then."""
        engine = (self.engine.directory / "pid").read_text().strip()
        return f"kill {self.daemon_pids()} {engine}; tail --pid={engine} -f /dev/null; rm -r {self.root}"

    def _log_kept(self) -> Path:
        return self.root / "engine.log"

    def _containers(self, service: str) -> list[dict[str, Any]]:
        """All of the service, also those that have ended."""
        ids = self.engine.docker("ps", "-aq", "--no-trunc", "--filter", f"label={SERVICE_NAME_LABEL}={service}").split()
        # One that was removed since it was listed is an error to `docker inspect`, which tells of the others.
        return list(json.loads(self.engine.docker("inspect", *ids, check=False) or "[]")) if ids else []


WORLDS: Final[dict[str, type[World]]] = {"process": Processes, "docker": Containers}
"""By the name of the executor."""


def _run(container: dict[str, Any]) -> Run:
    labels, state = container["Config"]["Labels"], container["State"]
    return Run(labels[TASK_ID_LABEL], labels[NODE_ID_LABEL], state["Pid"], state["StartedAt"], container["Id"])


def _listening_port(pid: int) -> int | None:
    """The TCP port that a process (or a child of it) listens on, from /proc."""
    inodes = set()
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            match = re.match(r"socket:\[(\d+)\]", os.readlink(descriptor))
            if match:
                inodes.add(match[1])
    except OSError:
        return None
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[9] in inodes:
            return int(fields[1].rsplit(":", 1)[1], 16)
    return None


def _pids_that_mention(text: str) -> list[int]:
    """Processes with this on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if text.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found
