"""Managers as real processes, each in its namespace, with a clock and a disk that can be tampered with."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from swarmd.errors import SwarmError
from swarmd.transport.blocking import BlockingConnection
from swarmd.wire import control, methods
from swarmd.wire.frames import Headers
from swarmd.wire.methods import Method
from swarmd.wire.raft_status import RaftStatusReply, RaftStatusRequest
from tests.chaos.network import Network
from tests.chaos.tools import faketime_library
from tests.e2e.machines import Failed, Machine, wait_until

Req = TypeVar("Req")
Resp = TypeVar("Resp")

PORT: Final = 4242
RESTART_S: Final = 1.0
"""A daemon that ended by itself is started again after so long, as systemd would."""
ANSWER_S_MAX: Final = 2.0
DISK_MIB: Final = 64


class Manager(Machine):
    """A machine in a namespace of its own."""

    def __init__(self, root: Path, number: int, network: Network) -> None:
        super().__init__(root, f"m{number}")
        self.number = number
        self.inside = network.inside(number)
        self.listen = f"{network.address(number)}:{PORT}"
        self.is_wanted = False
        self.ended_by_itself: list[str] = []
        self._down_since: float | None = None
        self._image: Path | None = None
        self._clock: Path | None = None

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self, *arguments: str) -> None:
        """See `Machine`."""
        super().start(*arguments)
        self.is_wanted = True

    def kill_daemon(self) -> None:
        """See `Machine`. It stays down until it is started."""
        self.is_wanted = False
        super().kill_daemon()

    def terminate(self) -> None:
        """See `Machine`. It stays down until it is started."""
        self.is_wanted = False
        super().terminate()

    def keep_up(self) -> None:
        """Start a daemon again that ended by itself, and remember that it did."""
        if not self.is_wanted or self.is_up:
            return
        if self._down_since is None:
            self._down_since = time.monotonic()
            status = self.process.returncode if self.process is not None else None
            self.ended_by_itself.append(f"{self.name} ended by itself with status {status}:\n{self.tail(5)}")
        elif time.monotonic() - self._down_since >= RESTART_S:
            self._down_since = None
            self.start()

    def signal(self, number: signal.Signals) -> None:
        """To the daemon, if there is one."""
        if self.process is not None and self.is_up:
            self.process.send_signal(number)

    # -- what it says of itself, told within two seconds or not at all ------------------------------------------------

    def asked(self) -> control.StatusReply | None:
        """`status`, or None."""
        return self._ask(methods.STATUS, control.StatusRequest())

    def raft(self) -> RaftStatusReply | None:
        """`raft status`, or None."""
        return self._ask(methods.RAFT_STATUS, RaftStatusRequest())

    def services(self, names: tuple[str, ...] = ()) -> tuple[control.ServiceView, ...]:
        """As this manager has them, whoever leads. Raises `SwarmError`."""
        with BlockingConnection.connect(self.socket) as connection:
            request = control.ListServices(names=names)
            return connection.call(methods.SERVICE_LIST, request, headers=Headers(stale=True)).services

    def _ask(self, method: Method[Req, Resp], request: Req) -> Resp | None:
        try:
            with BlockingConnection.connect(self.socket, timeout_s=ANSWER_S_MAX) as connection:
                return connection.call(method, request, timeout_s=ANSWER_S_MAX)
        except SwarmError:
            return None

    # -- its clock ----------------------------------------------------------------------------------------------------

    def fake_clock(self) -> None:
        """Before it starts: its wall clock will be what `jump` says. Monotonic time stays."""
        self._clock = self.state_dir.parent / f"{self.name}.clock"
        self.jump(0)
        self.env |= {
            "LD_PRELOAD": str(faketime_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock),
            "FAKETIME_CACHE_DURATION": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
            # Its work-around for older C libraries lets timed waits return at once: Python's threads would spin.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }

    def jump(self, seconds: int) -> None:
        """Let its wall clock be so far from the true one."""
        assert self._clock is not None
        new = self._clock.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._clock)

    # -- its disk -----------------------------------------------------------------------------------------------------

    def small_disk(self) -> None:
        """Before it starts: a file system of 64 MiB holds its state directory."""
        image = self.state_dir.parent / f"{self.name}.img"
        with image.open("wb") as file:
            file.truncate(DISK_MIB << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], check=True)
        self.state_dir.mkdir()
        subprocess.run(["mount", "-o", "loop", str(image), str(self.state_dir)], check=True)
        self._image = image
        (self.state_dir / "lost+found").rmdir()

    def fill_disk(self) -> None:
        """Until not a byte more fits."""
        with self._ballast.open("ab", buffering=0) as ballast:
            for size in (1 << 20, 4096, 1):
                try:
                    while True:
                        ballast.write(bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def free_disk(self) -> None:
        """There is room again."""
        self._ballast.unlink(missing_ok=True)

    @property
    def _ballast(self) -> Path:
        return self.state_dir / "ballast"

    def remove_disk(self) -> None:
        """Unmount it, once the daemon is gone."""
        if self._image is not None:
            subprocess.run(["umount", str(self.state_dir)], check=True)
            self._image.unlink()
            self._image = None

    # -- in the end ---------------------------------------------------------------------------------------------------

    def verify(self) -> Verified:
        """`swarmd raft verify` of the stopped manager. Raises `Failed` with what it says."""
        command = [sys.executable, "-m", "swarmd", "raft", "verify", str(self.state_dir), "-o", "json"]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            raise Failed(f"swarmd raft verify of {self.name}: exit {done.returncode}: {done.stderr.decode().strip()}")
        return msgspec.json.decode(done.stdout, type=Verified)


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What matters here of `swarmd raft verify`."""

    state_index: int
    digest: str
    state_hash: str


class Group:
    """All managers of a run."""

    def __init__(self, root: Path, network: Network, faults: Iterable[str]) -> None:
        self.managers = [Manager(root, number, network) for number in network.numbers]
        self.network = network
        self._faults = frozenset(faults)

    def __getitem__(self, number: int) -> Manager:
        return self.managers[number - 1]

    def start(self) -> None:
        """One founds the swarm, the others join; returns when all vote."""
        for manager in self.managers:
            if "clock" in self._faults:
                manager.fake_clock()
            if "disk" in self._faults:
                manager.small_disk()
        first, *others = self.managers
        first.start(*self._flags(first))
        first.wait_ready()
        token = str(first.json("cluster", "inspect")["root_ca"]["join_tokens"]["manager"])
        for manager in others:
            manager.start(*self._flags(manager), "--join-addr", first.listen, "--join-token", token)
        wait_until(self._all_vote, 60, "not all managers vote", lambda: "\n".join(m.tail() for m in self.managers))

    @staticmethod
    def _flags(manager: Manager) -> tuple[str, ...]:
        return ("--listen-remote-api", manager.listen, "--advertise-remote-api", manager.listen)

    def _all_vote(self) -> bool:
        status = self.managers[0].raft()
        return status is not None and status.voters == status.answering == len(self.managers)

    def leader(self) -> int | None:
        """The number of the manager that leads in the highest term that anybody tells of."""
        told = [(m.number, m.asked()) for m in self.managers if m.is_up]
        return max(((s.term, number) for number, s in told if s and s.is_leader), default=(0, None))[1]

    def keep_up(self) -> None:
        """See `Manager`."""
        for manager in self.managers:
            manager.keep_up()

    def stop(self) -> list[str]:
        """SIGTERM them all; complaints about those that did not stop, which are killed."""
        complaints = []
        for manager in self.managers:
            manager.terminate()
        for manager in self.managers:
            try:
                status = manager.wait_stopped()
            except Failed as failure:
                complaints.append(str(failure))
                manager.kill_daemon()
            else:
                if status:
                    complaints.append(f"{manager.name} stopped with status {status}:\n{manager.tail()}")
        return complaints

    def destroy(self) -> None:
        """Kill and unmount what is left."""
        for manager in self.managers:
            manager.kill_daemon()
        os.sync()
        for manager in self.managers:
            manager.remove_disk()
