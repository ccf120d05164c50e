"""Becomes the task: run by `supervisor.sh` in the task's directory as `python -I -S launch.py`, it ends in `exec`.

Does what a shell cannot: a new session, root directory, user, default signals, and an environment that shows in no
command line. Imports nothing of swarmd and little else, because it runs once per task.

Plan (`launch`): records `name=value`, each ended by a NUL; unknown names are ignored.
Reports: `child` (pid, start time, boot id) before the exec; `failed` holds one line if there is none, else nothing.
"""

from __future__ import annotations

import os
import resource
import signal
from contextlib import suppress

STARTER_FD = 3
EXIT_STOPPED = 143
EXIT_NOT_FOUND = 127
EXIT_FAILED = 126
OPEN_FILES_SOFT = 1024


class Plan:
    """What to become."""

    def __init__(self, records: bytes) -> None:
        self.arguments: list[bytes] = []
        self.environment: dict[bytes, bytes] = {}
        self.directory = b"/"
        self.root = b""
        self.uid = self.gid = -1
        self.groups: list[int] = []
        for record in records.split(b"\0"):
            self._add(*record.partition(b"=")[::2])

    def _add(self, name: bytes, value: bytes) -> None:
        if name == b"arg":
            self.arguments.append(value)
        elif name == b"env":
            key, _, text = value.partition(b"=")
            self.environment[key] = text
        elif name == b"dir":
            self.directory = value
        elif name == b"root":
            self.root = value
        elif name == b"uid":
            self.uid = int(value)
        elif name == b"gid":
            self.gid = int(value)
        elif name == b"group":
            self.groups.append(int(value))


class LaunchError(Exception):
    """Why there is no exec, and with which exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def write(name: str, text: str) -> None:
    """The file appears whole or not at all."""
    with open(name + ".new", "w", encoding="utf-8") as file:
        file.write(text + "\n")
    os.rename(name + ".new", name)


def record_child() -> None:
    """Say who the task is, before anything of it runs."""
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
        start_ticks = file.read().rpartition(")")[2].split()[19]
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read().strip()
    write("child", f"{os.getpid()} {start_ticks} {boot}")


def reset_signals() -> None:
    """The supervisor ignores signals; the task must not inherit that."""
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def reset_limits() -> None:
    """The daemon raised its soft limit of open files; a program that uses select() must not start with more than 1024,
    and one that wants more raises its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    usual = OPEN_FILES_SOFT if hard == resource.RLIM_INFINITY else min(OPEN_FILES_SOFT, hard)
    if soft == resource.RLIM_INFINITY or soft > usual:
        resource.setrlimit(resource.RLIMIT_NOFILE, (usual, hard))


def reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def enter(plan: Plan) -> None:
    """Root directory, user, working directory. Raises `LaunchError`."""
    try:
        if plan.root:
            os.chroot(plan.root)
            os.chdir("/")
    except OSError as error:
        raise LaunchError(f"root directory {os.fsdecode(plan.root)}: {reason(error)}", EXIT_FAILED) from error
    try:
        if plan.uid >= 0:
            os.setgroups(plan.groups)
            os.setgid(plan.gid)
            os.setuid(plan.uid)
    except OSError as error:
        raise LaunchError(f"user {plan.uid}:{plan.gid}: {reason(error)}", EXIT_FAILED) from error
    try:
        os.chdir(plan.directory)
    except OSError as error:
        raise LaunchError(f"working directory {os.fsdecode(plan.directory)}: {reason(error)}", EXIT_FAILED) from error


def candidates(plan: Plan) -> list[bytes]:
    """Where the program may be. By hand: `os.execvpe` imports on its way, which the task's user may not be able to."""
    program = plan.arguments[0]
    if b"/" in program:
        return [program]
    return [directory + b"/" + program for directory in plan.environment.get(b"PATH", b"").split(b":") if directory]


def execute(plan: Plan) -> None:
    """Raises `LaunchError` if it returns at all."""
    program = os.fsdecode(plan.arguments[0])
    failure = LaunchError(f"exec {program}: not found", EXIT_NOT_FOUND)
    for path in candidates(plan):
        try:
            os.execve(path, plan.arguments, plan.environment)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:  # perhaps a directory that is closed to us; another may hold the program
            failure = LaunchError(f"exec {program}: {reason(error)}", EXIT_FAILED)
        except OSError as error:
            raise LaunchError(f"exec {program}: {reason(error)}", EXIT_FAILED) from error
    raise failure


def become(plan: Plan) -> None:
    enter(plan)
    os.umask(0o022)
    execute(plan)


def tell(failed: int, message: str) -> None:
    """Leave the reason where a later daemon finds it, then tell the starter, who may be gone."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    line = message.encode(errors="replace")
    os.write(failed, line)
    with suppress(BrokenPipeError):  # the starter was stopped; `failed` is what its successor reads
        os.write(STARTER_FD, line)


def main() -> int:
    os.set_inheritable(STARTER_FD, False)  # noqa: FBT003 - the library's signature
    os.setsid()
    # Before anybody can find us: a stop signal sent while we ignore it would be lost.
    reset_signals()
    reset_limits()
    # Opened now, because the task's user may not write here later. Empty means that nothing failed.
    failed = os.open("failed", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    record_child()
    # Whoever stops a task writes `stop` first and looks for `child` then; the order here is the reverse, so that at
    # least one of the two sees the other.
    if os.path.exists("stop"):
        return EXIT_STOPPED
    try:
        with open("launch", "rb") as file:
            plan = Plan(file.read())
        become(plan)
    except LaunchError as error:
        tell(failed, str(error))
        return error.status
    except OSError as error:
        tell(failed, f"launch: {reason(error)}")
    return EXIT_FAILED


if __name__ == "__main__":
    raise SystemExit(main())
