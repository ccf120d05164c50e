"""Processes that are not our children: who they are, whether they live, and how to signal a whole session.

A pid alone names nobody for long. A process is (pid, start time, boot id), and a pidfd (Linux 5.3) pins it: opened
first and compared then, it can never come to mean another process.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec

_PROC: Final = Path("/proc")
_DEAD_STATES: Final = frozenset("ZXx")
"""proc(5): zombies hold a pid and run nothing. Where pid 1 reaps nobody they stay for ever."""


class ProcessIdentity(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One process, also after its pid is used again and after a reboot."""

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `pid ticks boot` says. Anything else is a process that is gone (a file torn by a power cut)."""
        match text.split():
            case [pid, ticks, boot] if pid.isdecimal() and ticks.isdecimal():
                return cls(pid=int(pid), start_ticks=int(ticks), boot_id=boot)
            case _:
                return cls(pid=0, start_ticks=0, boot_id="")

    def __str__(self) -> str:
        return f"{self.pid} {self.start_ticks} {self.boot_id}"


class ProcStat(NamedTuple):
    """What we read of `/proc/PID/stat`."""

    state: str
    parent: int
    session: int
    start_ticks: int

    @property
    def is_dead(self) -> bool:
        return self.state in _DEAD_STATES


@cache
def boot_id() -> str:
    """Changes with each boot of the machine, and so never while we live."""
    return (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()


def read_stat(pid: int) -> ProcStat | None:
    """None if no process has this pid."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return ProcStat(state=fields[0], parent=int(fields[1]), session=int(fields[3]), start_ticks=int(fields[19]))


def is_alive(process: ProcessIdentity) -> bool:
    """Whether it still runs."""
    if process.boot_id != boot_id():
        return False
    stat = read_stat(process.pid)
    return stat is not None and not stat.is_dead and stat.start_ticks == process.start_ticks


def pin(process: ProcessIdentity) -> int | None:
    """A pidfd of it, or None if it is gone. The caller closes it."""
    pidfd = _open_pidfd(process.pid)
    if pidfd is None:
        return None
    if is_alive(process):
        return pidfd
    os.close(pidfd)
    return None


def pin_session(leader: ProcessIdentity) -> tuple[int, ...]:
    """Pidfds of all that runs in the session that `leader` began, also after its own end. The caller closes them.

    The kernel does not reuse a pid while a session carries it, so a living process with that pid and another start
    time shows that the session is gone.
    """
    if leader.boot_id != boot_id():
        return ()
    now = read_stat(leader.pid)
    if now is not None and now.start_ticks != leader.start_ticks:
        return ()
    return _pin_all(_members(leader.pid), lambda stat: stat.session == leader.pid)


def pin_children(parent: ProcessIdentity) -> tuple[int, ...]:
    """Pidfds of its children. The caller closes them."""
    if not is_alive(parent):
        return ()
    return _pin_all(_all_pids(), lambda stat: stat.parent == parent.pid)


def send(pidfd: int, number: int) -> None:
    """Signal a pinned process; one that is gone needs none."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return


def reap(pidfd: int) -> None:
    """Free the zombie, should it be ours (swarmd is pid 1 of a container, so orphans come to it)."""
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return


def _open_pidfd(pid: int) -> int | None:
    if pid <= 0:
        return None
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _all_pids() -> Iterator[int]:
    return (int(name) for name in os.listdir(_PROC) if name.isdecimal())


def _members(session: int) -> Iterator[int]:
    """Pids that seem to be in the session. Asking the kernel costs a tenth of reading a file for each process."""
    for pid in _all_pids():
        try:
            if os.getsid(pid) == session:
                yield pid
        except ProcessLookupError:
            continue


def _pin_all(pids: Iterable[int], is_wanted: Callable[[ProcStat], bool]) -> tuple[int, ...]:
    pinned: list[int] = []
    try:
        for pid in pids:
            pidfd = _open_pidfd(pid)
            if pidfd is None:
                continue
            pinned.append(pidfd)
            # Judged now that it is pinned: before, the pid could have changed hands.
            stat = read_stat(pid)
            if stat is None or stat.is_dead or not is_wanted(stat):
                os.close(pinned.pop())
    except OSError:
        for pidfd in pinned:
            os.close(pidfd)
        raise
    return tuple(pinned)
