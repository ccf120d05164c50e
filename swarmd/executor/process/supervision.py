"""One task's life as processes: start once, wait without polling, stop in order, leave nothing behind.

Everything is derived from the task's files and `/proc` at each call, so that an instance made by a later daemon knows
as much as the one that started the task. Invariants and the races they close: `DESIGN.md`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import trio

from swarmd.executor.contract import TaskError, TaskExited, TemporaryTaskError
from swarmd.executor.process import proc
from swarmd.executor.process.plan import SYSTEM_PATH, StopPolicy
from swarmd.executor.process.proc import ProcessIdentity
from swarmd.executor.process.task_files import Handle, TaskFiles
from swarmd.model import ContainerStatus

START_TIMEOUT_S: Final = 30.0
"""From fork to exec takes 30 ms; a machine this late is overloaded, and the start is tried again."""
KILL_TIMEOUT_S: Final = 10.0
"""SIGKILL is immediate unless the kernel itself waits for a disk."""
RECORD_TIMEOUT_S: Final = 5.0
"""How long a supervisor may take to write down an exit."""
DETACH_TIMEOUT_S: Final = 5.0
KILL_ROUNDS_MAX: Final = 20
"""A session that still forks after as many rounds of SIGKILL is reported, not chased for ever."""
MESSAGE_BYTES_MAX: Final = 4096
EXIT_UNKNOWN: Final = 128 + signal.SIGKILL

_HERE: Final = Path(__file__).parent
_SUPERVISOR: Final = _HERE / "supervisor.sh"
_LAUNCHER: Final = _HERE / "launch.py"

T = TypeVar("T")


class Supervision:
    """What runs one task. Errors are the contract's; each method may be cancelled and called again."""

    def __init__(self, files: TaskFiles, limiter: trio.CapacityLimiter) -> None:
        self._files = files
        self._limiter = limiter

    async def start(self) -> None:
        """Start it if nothing ever did, in this boot or another; returns once it has become the task."""
        handle = await self._read()
        if not handle.is_prepared:
            raise TaskError("it was not prepared")
        if handle.supervisor is None and handle.exit_code is None:
            await self._start_unclaimed(handle)
            handle = await self._read()
        if handle.failure:
            raise TaskError(handle.failure)
        if handle.is_forbidden:
            raise TaskError("it was stopped before it started")

    async def wait(self) -> None:
        """Until it has ended and its session is empty."""
        handle = await self._read()
        if handle.supervisor is None and not handle.is_over:
            raise TaskError(_interrupted(handle) if handle.intent else "nothing runs it")
        if not handle.is_over:
            await self._await_end(handle)
            handle = await self._read()
        await self._kill_session(handle)
        _raise_outcome(handle)

    async def stop(self, policy: StopPolicy) -> None:
        """Signal its session, give it the grace period, kill what is left."""
        handle = await self._forbid_or_read()
        if handle is None:
            return
        if handle.child is not None and not handle.is_over:
            await self._signal_session(handle.child, policy.signal_number)
        if not handle.is_over:
            with trio.move_on_after(policy.grace_s):
                await self._await_end(handle)
        await self._kill(handle)

    async def kill(self) -> None:
        """Kill it at once."""
        handle = await self._forbid_or_read()
        if handle is not None:
            await self._kill(handle)

    async def status(self) -> ContainerStatus | None:
        """None if it never started."""
        handle = await self._read()
        if handle.child is None:
            return None
        return ContainerStatus(container_id=self._files.path.name, pid=handle.child.pid, exit_code=_exit_code(handle))

    # -- starting ---------------------------------------------------------------------------------------------------
    async def _start_unclaimed(self, handle: Handle) -> None:
        boot = await self._in_thread(proc.boot_id)
        if handle.intent is not None and handle.intent != boot:
            raise TaskError(_interrupted(handle))
        await self._in_thread(lambda: self._files.write_intent(boot))
        complaint = await self._spawn()
        handle = await self._read()
        if handle.supervisor is None:
            raise TemporaryTaskError(f"its supervisor did not start: {complaint or 'no reason given'}")

    async def _spawn(self) -> str:
        """Run the supervisor; what it says until the task has begun (or a rival has won the claim)."""
        command = ["/bin/sh", str(_SUPERVISOR), "detach", str(self._files.path), sys.executable, str(_LAUNCHER)]
        search_path = f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}".removeprefix(":")
        try:
            process = await trio.lowlevel.open_process(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={"PATH": search_path, "LC_ALL": "C"},
                start_new_session=True,
            )
        except OSError as error:
            raise TemporaryTaskError(f"cannot start a process: {error.strerror}") from error
        try:
            with trio.fail_after(START_TIMEOUT_S):
                return await _read_all(process)
        except trio.TooSlowError as error:
            raise TemporaryTaskError(f"it did not start within {START_TIMEOUT_S:.0f} s") from error
        finally:
            await _collect(process)

    # -- ending -----------------------------------------------------------------------------------------------------
    async def _forbid_or_read(self) -> Handle | None:
        """Make sure that it will not start from now on; its handle if it did, None if there is nothing to stop."""

        def forbid() -> Handle | None:
            if not self._files.path.is_dir():
                return None
            handle = self._files.read()
            if handle.child is not None:
                return handle  # and write nothing: a full disk must not keep a task from being stopped
            self._files.request_stop()
            return None if self._files.forbid_start() else self._files.read()

        handle = await self._in_thread(forbid)
        return None if handle is None or handle.is_forbidden else handle

    async def _await_end(self, handle: Handle) -> None:
        """Until supervisor and task are gone. If the supervisor was killed, the task may outlive it."""
        if handle.supervisor is not None:
            await self._gone(handle.supervisor)
        child = (await self._read()).child
        if child is not None:
            await self._gone(child)

    async def _gone(self, process: ProcessIdentity) -> None:
        async with self._pinned(lambda: [proc.pin(process)]) as pidfds:
            for pidfd in pidfds:
                await trio.lowlevel.wait_readable(pidfd)
                proc.reap(pidfd)

    async def _kill(self, handle: Handle) -> None:
        await self._kill_session(handle)
        with trio.move_on_after(RECORD_TIMEOUT_S):
            await self._await_end(handle)
            return
        await self._kill_supervisor(handle)

    async def _kill_session(self, handle: Handle) -> None:
        child = (await self._read()).child if handle.child is None else handle.child
        if child is not None:
            await self._kill_all(lambda: proc.pin_session(child))

    async def _kill_supervisor(self, handle: Handle) -> None:
        """It hangs, or its launcher does: neither has recorded anything. First its children, then itself."""
        supervisor = handle.supervisor
        if supervisor is not None:
            await self._kill_all(lambda: proc.pin_children(supervisor))
            await self._kill_all(lambda: [proc.pin(supervisor)])

    async def _kill_all(self, pin: Callable[[], Iterable[int | None]]) -> None:
        """SIGKILL whatever `pin` finds, until it finds nothing: processes may fork while they are killed."""
        try:
            with trio.fail_after(KILL_TIMEOUT_S):
                for _ in range(KILL_ROUNDS_MAX):
                    async with self._pinned(pin) as pidfds:
                        if not pidfds:
                            return
                        for pidfd in pidfds:
                            proc.send(pidfd, signal.SIGKILL)
                        for pidfd in pidfds:
                            await trio.lowlevel.wait_readable(pidfd)
        except trio.TooSlowError as error:
            raise TemporaryTaskError(f"SIGKILL did not end it within {KILL_TIMEOUT_S:.0f} s") from error
        raise TemporaryTaskError("it forks faster than it can be killed")

    async def _signal_session(self, leader: ProcessIdentity, number: int) -> None:
        async with self._pinned(lambda: proc.pin_session(leader)) as pidfds:
            for pidfd in pidfds:
                proc.send(pidfd, number)

    # -- plumbing ---------------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def _pinned(self, pin: Callable[[], Iterable[int | None]]) -> AsyncIterator[tuple[int, ...]]:
        pidfds = await self._in_thread(lambda: tuple(pidfd for pidfd in pin() if pidfd is not None))
        try:
            yield pidfds
        finally:
            for pidfd in pidfds:
                trio.lowlevel.notify_closing(pidfd)
                os.close(pidfd)

    async def _read(self) -> Handle:
        return await self._in_thread(self._files.read)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await trio.to_thread.run_sync(work, limiter=self._limiter)
        except OSError as error:
            raise TemporaryTaskError(f"its files: {error}") from error


async def _read_all(process: trio.Process) -> str:
    assert process.stdout is not None
    received = bytearray()
    async for chunk in process.stdout:
        received += chunk[: MESSAGE_BYTES_MAX - len(received)]
    return received.decode(errors="replace").strip()


async def _collect(process: trio.Process) -> None:
    """Free the short-lived first process, also when cancelled; the supervisor is no child of ours."""
    assert process.stdout is not None
    with trio.CancelScope(shield=True):
        await process.stdout.aclose()
        with trio.move_on_after(DETACH_TIMEOUT_S):
            await process.wait()
            return
        process.kill()
        await process.wait()


def _interrupted(handle: Handle) -> str:
    return f"it may have run before the machine restarted (boot {handle.intent}), and is not started twice"


def _exit_code(handle: Handle) -> int | None:
    if handle.exit_code is not None or handle.supervisor is None or proc.is_alive(handle.supervisor):
        return handle.exit_code
    if handle.child is not None and proc.is_alive(handle.child):
        return None
    return EXIT_UNKNOWN


def _raise_outcome(handle: Handle) -> None:
    if handle.failure:
        raise TaskError(handle.failure)
    if handle.is_forbidden:
        raise TaskExited(EXIT_UNKNOWN, "it was stopped before it started")
    match handle.exit_code:
        case 0:
            return
        case None:
            raise TaskExited(
                EXIT_UNKNOWN, "how it ended is unknown: its supervisor was killed or the machine restarted"
            )
        case code if code > 128 and code - 128 in signal.valid_signals():
            raise TaskExited(code, f"killed by {_signal_name(code - 128)} (exit status {code})")
        case code:
            raise TaskExited(code, f"exit status {code}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
