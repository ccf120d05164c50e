"""A machine within this one, where documented commands can be typed as they stand.

It has a network, mounts and a name of its own: default ports and default sockets are free, `/tmp` and `/run` are empty,
and whatever happens there is gone with it. The rest of the file system is this machine's, the checkout included.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from tests.engine.engine import Engine, EngineFailed
from tests.engine.images import busybox_image, redis_image

HIDDEN: Final = (Path("/tmp"), Path("/run"))
ADDRESS: Final = Path("/run/docker.sock")
READY_S_MAX: Final = 10.0
CHECKOUT: Final = Path(__file__).resolve().parents[2]


class SandboxEngine(Engine):
    """The sandbox's engine, where everybody expects one: at `/var/run/docker.sock`, with Docker's usual bridge."""

    def __init__(self, directory: Path, sandbox: Sandbox) -> None:
        super().__init__(directory, network=True)
        self.socket = ADDRESS
        self._sandbox = sandbox

    def answers(self) -> bool:
        """Whether it answers a command."""
        return self._sandbox.run(["docker", "version"], check=False, stdout=-3, stderr=-3).returncode == 0

    def docker(self, *arguments: str, check: bool = True) -> str:
        """See `Engine`."""
        done = self._sandbox.run(["docker", *arguments], capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise EngineFailed(f"docker {' '.join(arguments)}: {done.stderr.strip()}")
        return str(done.stdout)

    def _enter(self) -> list[str]:
        return self._sandbox.prefix


class Sandbox:
    """Use it as a context manager; its end kills what still runs there."""

    def __init__(self) -> None:
        self._place = Path(tempfile.mkdtemp(prefix="sandbox-", dir="/var/tmp"))
        self._holder: subprocess.Popen[bytes] | None = None
        self._processes: list[subprocess.Popen[Any]] = []
        self.engine = SandboxEngine(self._place / "engine", self)

    def __enter__(self) -> Sandbox:
        keep = [p for p in {CHECKOUT, Path(sys.prefix), Path(sys.base_prefix)} if p.is_relative_to("/tmp")]
        script = ["set -e", "ip link set lo up", "hostname sandbox", "mount --make-rprivate /"]
        for hidden in HIDDEN:
            staged = self._place / hidden.name
            staged.mkdir()
            script.append(f"mount -n -t tmpfs -o mode=1777 none {staged}")
            for path in sorted(p for p in keep if p.is_relative_to(hidden)):
                inside = shlex.quote(str(staged / path.relative_to(hidden)))
                script.append(f"mkdir -p {inside}; mount -n --bind {shlex.quote(str(path))} {inside}")
        script += [f"mount -n --move {self._place / hidden.name} {hidden}" for hidden in HIDDEN]
        script += ["echo ready", "exec sleep infinity"]
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--uts", "sh", "-c", "\n".join(script)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            self.close()
            raise EngineFailed("the sandbox could not be made: see what mount or ip said")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def prefix(self) -> list[str]:
        """What makes a command run in there."""
        assert self._holder is not None
        return ["nsenter", f"--target={self._holder.pid}", "--net", "--mount", "--uts", f"--wd={CHECKOUT}", "--"]

    def start_engine(self) -> None:
        """An engine at the usual place, with the images busybox and redis."""
        # Made outside, where the images are kept; the sandbox sees them too.
        archives = (busybox_image(), redis_image())
        self.engine.start()
        self.engine.load(*archives)

    def popen(self, command: list[str], **options: Any) -> subprocess.Popen[Any]:
        """As `subprocess.Popen`, in there."""
        process = subprocess.Popen([*self.prefix, *command], **options)
        self._processes.append(process)
        return process

    def run(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[Any]:
        """As `subprocess.run`, in there."""
        return subprocess.run([*self.prefix, *command], **options)

    def pids(self, program: str) -> list[int]:
        """Processes in there whose program has this name."""
        return [pid for pid in self._members() if _program(pid) == program]

    def close(self) -> None:
        """Kill everything in there, and remove it."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self.engine.stop()
        if self._holder is not None:
            self._kill_the_rest()
            self._holder.kill()
            self._holder.wait()
            if self._holder.stdout is not None:
                self._holder.stdout.close()
        for path in sorted(self._place.rglob("*"), reverse=True):
            path.rmdir()
        self._place.rmdir()

    def _kill_the_rest(self) -> None:
        """Daemons that were put in the background: whatever lives in the sandbox's mount namespace."""
        assert self._holder is not None
        deadline = time.monotonic() + READY_S_MAX
        while pids := self._members():
            if time.monotonic() > deadline:
                raise EngineFailed(f"processes of the sandbox do not die: {pids}")
            subprocess.run(["kill", "-9", *map(str, pids)], check=False, stderr=subprocess.DEVNULL)
            time.sleep(0.02)

    def _members(self) -> list[int]:
        assert self._holder is not None
        own = self._namespace(self._holder.pid)
        found = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        return [pid for pid in found if pid != self._holder.pid and own and self._namespace(pid) == own]

    @staticmethod
    def _namespace(pid: int) -> str:
        try:
            return str(Path(f"/proc/{pid}/ns/net").readlink())
        except OSError:
            return ""


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
