"""A Docker engine of our own: started, killed and removed without touching the machine's."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Final

START_S_MAX: Final = 30.0
DIE_S_MAX: Final = 10.0
COMMAND_S_MAX: Final = 120.0
PING: Final = b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n"
CGROUPS: Final = Path("/sys/fs/cgroup")


class EngineFailed(Exception):
    """An engine, or a command given to it, did not do what it should; the message has its words."""


class Engine:
    """One dockerd with its own data, socket, cgroup and `/etc/docker`, in `directory` (short: sockets have 107 bytes).

    Without a network its containers have only their own loopback, and nothing of this machine's network is touched.
    With `live_restore` its containers outlive it.
    """

    def __init__(self, directory: Path, *, live_restore: bool = False, network: bool = False) -> None:
        self.directory = directory
        self.socket = directory / "docker.sock"
        self._live_restore = live_restore
        self._network = network
        self._process: subprocess.Popen[bytes] | None = None
        self._cgroup = f"swarm-test-{os.getpid()}-{directory.name}"

    @property
    def address(self) -> str:
        """What `--engine-addr` takes."""
        return f"unix://{self.socket}"

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it and return once it answers. Raises `EngineFailed` with the end of its log."""
        etc = self.directory / "etc"
        etc.mkdir(parents=True, exist_ok=True)
        Path("/etc/docker").mkdir(exist_ok=True)
        for stale in (self.directory / "pid", self.directory / "exec" / "containerd" / "containerd.pid"):
            stale.unlink(missing_ok=True)
        # A mount namespace of its own: engines that share /etc/docker believe that they are the same one.
        script = 'mount --bind "$0" /etc/docker && exec "$@"'
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._enter(), "unshare", "--mount", "sh", "-c", script, str(etc), *self._command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S_MAX
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise EngineFailed(f"the engine did not start:\n{self.tail()}")
            time.sleep(0.05)

    def kill(self) -> None:
        """kill -9 of the engine and its containerd. Containers go on under their shims."""
        self._kill_daemons()

    def power_off(self) -> None:
        """kill -9 of everything: engine, containerd, shims, containers."""
        self._kill_daemons()
        self._kill(self._shims() + self._contained())

    def stop(self) -> None:
        """Power off, and remove every trace of it."""
        self.power_off()
        for path in self._cgroup_directories():
            for directory, _, _ in os.walk(path, topdown=False):
                with contextlib.suppress(OSError):
                    Path(directory).rmdir()
        self._unmount()
        shutil.rmtree(self.directory, ignore_errors=True)

    def answers(self) -> bool:
        """Whether it answers a ping."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(5)
                connection.connect(str(self.socket))
                connection.sendall(PING)
                return b" 200 " in connection.recv(64)
        except OSError:
            return False

    def tail(self, lines: int = 12) -> str:
        """The end of its log."""
        try:
            return "\n".join((self.directory / "log").read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"

    # -- talking ----------------------------------------------------------------------------------------------------

    def docker(self, *arguments: str, check: bool = True) -> str:
        """What the command line prints. Raises `EngineFailed` if it fails and `check`."""
        done = subprocess.run(
            ["docker", "-H", self.address, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S_MAX,
            check=False,
        )
        if check and done.returncode:
            raise EngineFailed(f"docker {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def load(self, *archives: Path) -> None:
        """Load images that `docker save` wrote, or that look like it."""
        for archive in archives:
            self.docker("load", "--quiet", "--input", str(archive))

    def containers(self, *labels: str) -> list[dict[str, Any]]:
        """All containers, also those that have ended, that carry these labels (`name` or `name=value`)."""
        filters = [word for label in labels for word in ("--filter", f"label={label}")]
        ids = self.docker("ps", "--all", "--quiet", "--no-trunc", *filters).split()
        return list(json.loads(self.docker("inspect", *ids))) if ids else []

    def remove_containers(self) -> None:
        """Kill and remove every container."""
        ids = self.docker("ps", "--all", "--quiet").split()
        if ids:
            self.docker("rm", "--force", "--volumes", *ids)

    # -- plumbing ---------------------------------------------------------------------------------------------------

    def _enter(self) -> list[str]:
        """What makes a command run where the engine should."""
        return []

    def _command(self) -> list[str]:
        at = self.directory
        command = [
            "dockerd",
            *("--data-root", str(at / "data"), "--exec-root", str(at / "exec")),
            *("--host", self.address, "--pidfile", str(at / "pid")),
            *("--cgroup-parent", f"/{self._cgroup}", "--userland-proxy=false"),
        ]
        command += [] if self._network else ["--bridge", "none", "--iptables=false", "--ip6tables=false"]
        return command + (["--live-restore"] if self._live_restore else [])

    def _kill_daemons(self) -> None:
        self._kill(self._daemons())
        if self._process is not None:
            self._process.wait()
            self._process = None

    def _daemons(self) -> list[int]:
        """dockerd and its containerd: their command lines name this directory."""
        return [pid for pid, words in _commands() if self._is_ours(words) and "shim" not in words[0]]

    def _shims(self) -> list[int]:
        return [pid for pid, words in _commands() if "shim" in words[0] and self._is_ours(words)]

    def _is_ours(self, words: list[str]) -> bool:
        own = f"{self.directory}/"
        is_daemon = Path(words[0]).name.startswith(("dockerd", "containerd"))
        return is_daemon and any(own in word for word in words)

    def _contained(self) -> list[int]:
        found: set[int] = set()
        for path in self._cgroup_directories():
            for procs in path.rglob("cgroup.procs"):
                with contextlib.suppress(OSError):
                    found.update(map(int, procs.read_text().split()))
        return sorted(found)

    def _cgroup_directories(self) -> list[Path]:
        candidates = [CGROUPS / self._cgroup, *(controller / self._cgroup for controller in CGROUPS.glob("*/"))]
        return [path for path in candidates if path.is_dir()]

    def _kill(self, pids: list[int]) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + DIE_S_MAX
        while any(_is_alive(pid) for pid in pids):
            if time.monotonic() > deadline:
                raise EngineFailed(f"SIGKILL did not end {pids}")
            if self._process is not None:
                self._process.poll()
            time.sleep(0.01)

    def _unmount(self) -> None:
        """Overlay mounts that outlived the engine's mount namespace (those of live containers do)."""
        own = f"{self.directory}/"
        points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for point in sorted((p for p in points if p.startswith(own)), reverse=True):
            subprocess.run(["umount", "--lazy", point], check=False, stderr=subprocess.DEVNULL)


def _commands() -> list[tuple[int, list[str]]]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if words[0]:
                    found.append((int(entry.name), words))
    return found


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
