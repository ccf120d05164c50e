"""What the contract does not say of plain processes: supervisors, sessions, files, users, half-done starts."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import trio

from swarmd.executor import Controller, TaskError, TaskExited
from swarmd.executor.process import ProcessExecutor, proc, supervision
from swarmd.executor.process.proc import ProcessIdentity
from swarmd.executor.process.task_files import Handle, TaskFiles
from swarmd.model import ResourceLimits, ResourceRequirements, Task
from tests.contract.executor.harness import make_task

needs_root = pytest.mark.needs_root


@pytest.fixture
def as_root() -> None:
    if os.geteuid() != 0:
        if os.environ.get("SWARM_TEST_REQUIRE") == "root":
            pytest.fail("needs root")
        pytest.skip("needs root to change user or root directory")


def shell(script: str, **container: object) -> Task:
    return make_task("shell", command=("sh", "-c", script), **container)


async def started(executor: ProcessExecutor, task: Task) -> Controller:
    controller = executor.controller(task)
    await controller.prepare()
    await controller.start()
    return controller


async def output(executor: ProcessExecutor, task: Task) -> str:
    """What `task` printed by the time it ended well."""
    controller = await started(executor, task)
    await controller.wait()
    return executor.log_path(task.id).read_text()


def handle(directory: Path, task: Task) -> Handle:
    return TaskFiles(directory / task.id).read()


def identity_of(pid: int) -> ProcessIdentity:
    stat = proc.read_stat(pid)
    assert stat is not None
    return ProcessIdentity(pid=pid, start_ticks=stat.start_ticks, boot_id=proc.boot_id())


def command_line(process: ProcessIdentity) -> bytes:
    return Path(f"/proc/{process.pid}/cmdline").read_bytes()


def resident_kb(process: ProcessIdentity) -> int:
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0])


def modes(directory: Path) -> dict[str, int]:
    """Permissions of the directory (``.``) and of what is in it."""
    return {".": directory.stat().st_mode & 0o777} | {
        path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()
    }


def kill(process: ProcessIdentity | None) -> None:
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)


# -- what the task sees -----------------------------------------------------------------------------------------------
async def test_the_environment_is_minimal_and_the_tasks_own(
    executor: ProcessExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAEMON_SECRET", "1")
    task = make_task("env", command=("env", "-0"), env=("A=b", "odd.name=x=y", "SWARM_TASK_ID=forged"), hostname="h1")
    printed = dict(line.split("=", 1) for line in (await output(executor, task)).split("\0") if line)
    assert printed.pop("PATH")
    assert printed.pop("HOME")
    assert printed == {
        "A": "b",
        "odd.name": "x=y",
        "HOSTNAME": "h1",
        "SWARM_TASK_ID": task.id,
        "SWARM_TASK_NAME": f"web.1.{task.id}",
        "SWARM_SERVICE_NAME": "web",
        "SWARM_SLOT": "1",
        "SWARM_NODE_ID": "node",
    }


async def test_secrets_in_the_environment_show_in_no_command_line(executor: ProcessExecutor, directory: Path) -> None:
    task = shell("exec sleep 60", env=("PASSWORD=hunter2",))
    controller = await started(executor, task)
    for process in (handle(directory, task).supervisor, handle(directory, task).child):
        assert process is not None
        assert b"hunter2" not in command_line(process)
    await controller.terminate()


async def test_arguments_are_passed_as_they_are(executor: ProcessExecutor) -> None:
    task = make_task("args", command=("printf", "[%s]"), args=("a b", "", "$HOME", "é\n", "*"))
    assert await output(executor, task) == "[a b][][$HOME][é\n][*]"


async def test_the_working_directory_is_the_specs(executor: ProcessExecutor, tmp_path: Path) -> None:
    assert await output(executor, shell("pwd", dir=str(tmp_path))) == f"{tmp_path}\n"


async def test_signals_umask_and_files_are_as_for_any_program(executor: ProcessExecutor) -> None:
    script = "grep -E 'SigIgn|SigBlk' /proc/self/status; umask; ls /proc/self/fd | wc -l; readlink /proc/self/fd/0"
    lines = (await output(executor, shell(script))).split()
    # Signals 32 and 33 are the C library's own: they may come blocked or ignored from above, and no program can tell.
    blocked, ignored = (int(lines[number], 16) & ~(1 << 31 | 1 << 32) for number in (1, 3))
    assert (lines[0], blocked, lines[2], ignored) == ("SigBlk:", 0, "SigIgn:", 0)
    assert lines[4:] == ["0022", "4", "/dev/null"]


async def test_the_daemons_raised_limit_of_open_files_is_not_inherited(executor: ProcessExecutor) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        lines = (await output(executor, shell("ulimit -S -n; ulimit -H -n"))).split()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert lines == [str(min(1024, hard)), str(hard)]


async def test_the_files_are_nobody_elses(executor: ProcessExecutor, directory: Path) -> None:
    task = shell("true")
    await output(executor, task)
    assert modes(directory) == {".": 0o700, task.id: 0o700}
    names = ("launch", "task.log", "intent", "supervisor", "child", "failed", "exit")
    assert modes(directory / task.id) == {".": 0o700} | dict.fromkeys(names, 0o600)


# -- what cannot run --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (make_task("x"), "needs a command"),
        (make_task("x", command=("a",), stop_signal="SIGNOPE"), "stop_signal"),
        (make_task("x", command=("a\0b",)), "NUL"),
        (make_task("x", command=("a",), env=("=x",)), "names no variable"),
    ],
)
def test_a_spec_it_cannot_run_is_refused(executor: ProcessExecutor, task: Task, reason: str) -> None:
    with pytest.raises(TaskError, match=reason):
        executor.controller(task)


def test_limits_are_refused_rather_than_ignored(executor: ProcessExecutor) -> None:
    task = shell("true")
    spec = msgspec.structs.replace(
        task.spec, resources=ResourceRequirements(limits=ResourceLimits(memory_bytes=1 << 20))
    )
    with pytest.raises(TaskError, match="limits"):
        executor.controller(msgspec.structs.replace(task, spec=spec))


def test_an_id_that_is_a_path_is_refused(executor: ProcessExecutor) -> None:
    with pytest.raises(TaskError, match="cannot name a directory"):
        executor.controller(msgspec.structs.replace(shell("true"), id="../escape"))


@pytest.mark.parametrize(
    ("container", "reason"),
    [
        ({"command": ("/etc/passwd",)}, "exec /etc/passwd: permission denied"),
        ({"command": ("/etc/passwd/x",)}, "exec /etc/passwd/x: not found"),
        ({"command": ("true",), "dir": "/no/such/place"}, "working directory /no/such/place: no such file"),
    ],
)
async def test_a_start_that_fails_says_why(
    executor: ProcessExecutor, container: dict[str, object], reason: str
) -> None:
    controller = executor.controller(make_task("x", **container))
    await controller.prepare()
    for verb in (controller.start, controller.start, controller.wait):
        with pytest.raises(TaskError, match=reason):
            await verb()


@pytest.mark.parametrize(
    ("container", "reason"),
    [
        ({"image": "/no/such/root"}, "image /no/such/root: no such directory"),
        ({"user": "no-such-user"}, "user 'no-such-user': no such user"),
    ],
)
async def test_an_unknown_root_or_user_is_refused_when_it_is_prepared(
    executor: ProcessExecutor, container: dict[str, object], reason: str
) -> None:
    controller = executor.controller(make_task("x", command=("true",), **container))
    with pytest.raises(TaskError, match=reason):
        await controller.prepare()


@pytest.mark.parametrize(
    ("container", "reason"),
    [({"user": "0"}, "only root can run a task as another user"), ({"image": "/"}, "only root can make a directory")],
)
async def test_only_root_may_choose_user_and_root_directory(
    executor: ProcessExecutor, monkeypatch: pytest.MonkeyPatch, container: dict[str, object], reason: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    controller = executor.controller(make_task("x", command=("true",), **container))
    with pytest.raises(TaskError, match=reason):
        await controller.prepare()


@needs_root
@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize(
    ("user", "ids"), [("nobody", "65534 65534"), ("12345", "12345 12345"), ("12345:54321", "12345 54321")]
)
async def test_root_runs_a_task_as_its_user(executor: ProcessExecutor, user: str, ids: str) -> None:
    assert (await output(executor, shell("echo $(id -u) $(id -g)", user=user))).strip() == ids


@needs_root
@pytest.mark.usefixtures("as_root")
async def test_root_may_give_a_task_a_root_directory_of_its_own(executor: ProcessExecutor, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    controller = executor.controller(make_task("x", command=("/bin/sh",), image=str(root), user="12345"))
    await controller.prepare()
    with pytest.raises(TaskError, match="exec /bin/sh: not found"):
        await controller.start()


# -- its end ----------------------------------------------------------------------------------------------------------
async def test_the_stop_signal_is_the_specs_and_reaches_grandchildren(executor: ProcessExecutor) -> None:
    child = """sh -c 'trap "echo child; exit" USR1; echo up >{}; sleep 60 & wait'"""
    script = f"trap 'echo parent; exit 4' USR1; {child} & wait; wait"
    ready = executor.log_path("x").parent.parent.parent / "up"
    os.mkfifo(ready)
    task = shell(script.format(ready), stop_signal="SIGUSR1", grace_s=5.0)
    controller = await started(executor, task)
    await trio.to_thread.run_sync(ready.read_bytes)
    await controller.shutdown()
    assert sorted(executor.log_path(task.id).read_text().split()) == ["child", "parent"]
    with pytest.raises(TaskExited) as caught:
        await controller.wait()
    assert caught.value.exit_code == 4


async def test_what_a_task_leaves_in_its_session_ends_with_it(executor: ProcessExecutor) -> None:
    # With a process group of its own, only the session ties the sleep to the task.
    script = "import subprocess; print(subprocess.Popen(['sleep', '60'], process_group=0).pid)"
    task = make_task("x", command=(sys.executable, "-W", "ignore", "-c", script))
    pid = int(await output(executor, task))
    stat = proc.read_stat(pid)
    assert stat is None or stat.is_dead


async def test_a_killed_supervisor_does_not_end_the_task_nor_hang_the_wait(
    executor: ProcessExecutor, directory: Path
) -> None:
    task = shell("exec sleep 60")
    controller = await started(executor, task)
    kill(handle(directory, task).supervisor)
    with trio.move_on_after(0.05) as waiting:
        await controller.wait()
    assert waiting.cancelled_caught
    kill(handle(directory, task).child)
    with pytest.raises(TaskExited, match="unknown") as caught:
        await controller.wait()
    assert caught.value.exit_code == 137


async def test_a_task_without_supervisor_can_be_stopped(executor: ProcessExecutor, directory: Path) -> None:
    task = shell("exec sleep 60")
    controller = await started(executor, task)
    kill(handle(directory, task).supervisor)
    await controller.remove()
    assert not (directory / task.id).exists()


async def test_a_daemon_that_is_killed_leaves_its_task_to_the_next(executor: ProcessExecutor, directory: Path) -> None:
    daemon = """
import sys, trio
from pathlib import Path
from swarmd.executor.process import ProcessExecutor
from tests.contract.executor.harness import make_task
async def main():
    task = make_task("x", command=("sh", "-c", "read line <" + sys.argv[2] + "; exit 9"))
    controller = ProcessExecutor(Path(sys.argv[1])).controller(task)
    await controller.prepare()
    await controller.start()
    print("started", flush=True)
    await trio.sleep_forever()
trio.run(main)
"""
    fifo = directory.parent / "fifo"
    os.mkfifo(fifo)
    command = [sys.executable, "-c", daemon, str(directory), str(fifo)]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3])
    assert process.stdout is not None
    assert (await process.stdout.receive_some()).strip() == b"started"
    process.kill()
    await process.wait()
    await process.stdout.aclose()

    adopted = executor.controller(make_task("x", command=("unused",)))
    await adopted.start()
    await trio.to_thread.run_sync(fifo.write_text, "go\n")
    with pytest.raises(TaskExited) as caught:
        await adopted.wait()
    assert caught.value.exit_code == 9


async def test_a_stop_that_overtakes_the_launcher_prevents_the_exec(executor: ProcessExecutor, directory: Path) -> None:
    task = shell("echo ran")
    controller = executor.controller(task)
    await controller.prepare()
    TaskFiles(directory / task.id).request_stop()
    await controller.start()
    with pytest.raises(TaskExited) as caught:
        await controller.wait()
    assert caught.value.exit_code == 143
    assert executor.log_path(task.id).read_text() == ""


async def test_a_supervisor_that_hangs_is_killed_with_its_launcher(
    executor: ProcessExecutor, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "RECORD_TIMEOUT_S", 0.05)
    task = shell("true")
    controller = executor.controller(task)
    await controller.prepare()
    hanging = await trio.lowlevel.open_process(["sh", "-c", "sleep 60; true"], start_new_session=True)
    files = TaskFiles(directory / task.id)
    files.write_intent(proc.boot_id())
    (files.path / "supervisor").write_text(str(identity_of(hanging.pid)))
    await controller.shutdown()
    with trio.fail_after(5):
        await hanging.wait()
    with pytest.raises(TaskExited, match="unknown"):
        await controller.wait()


async def test_a_full_disk_does_not_keep_a_task_from_being_stopped(
    executor: ProcessExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_files: TaskFiles) -> None:
        raise OSError(28, "No space left on device")

    controller = await started(executor, shell("exec sleep 60"))
    monkeypatch.setattr(TaskFiles, "request_stop", refuse)
    monkeypatch.setattr(TaskFiles, "forbid_start", refuse)
    await controller.shutdown()
    with pytest.raises(TaskExited) as caught:
        await controller.wait()
    assert caught.value.exit_code == 143


async def test_a_relative_directory_is_as_good(
    directory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert await output(ProcessExecutor(Path(directory.name)), shell("echo hi")) == "hi\n"


# -- exactly one start ------------------------------------------------------------------------------------------------
async def test_a_start_begun_before_a_reboot_is_not_repeated(executor: ProcessExecutor, directory: Path) -> None:
    task = shell("true")
    controller = executor.controller(task)
    await controller.prepare()
    TaskFiles(directory / task.id).write_intent("another-boot")
    with pytest.raises(TaskError, match="not started twice"):
        await controller.start()
    with pytest.raises(TaskError, match="not started twice"):
        await controller.wait()


async def test_a_start_begun_by_a_daemon_that_died_before_the_spawn_is_done_now(
    executor: ProcessExecutor, directory: Path
) -> None:
    task = shell("exit 6")
    controller = executor.controller(task)
    await controller.prepare()
    TaskFiles(directory / task.id).write_intent(proc.boot_id())
    await controller.start()
    with pytest.raises(TaskExited, match="exit status 6"):
        await controller.wait()


async def test_a_task_of_an_earlier_boot_is_over(executor: ProcessExecutor, directory: Path) -> None:
    task = shell("true")
    controller = executor.controller(task)
    await controller.prepare()
    files = TaskFiles(directory / task.id)
    files.write_intent("another-boot")
    me = identity_of(os.getpid())
    for name in ("supervisor", "child"):
        (files.path / name).write_text(f"{me.pid} {me.start_ticks} another-boot\n")
    await controller.start()
    with pytest.raises(TaskExited, match="machine restarted"):
        await controller.wait()
    await controller.remove()


async def test_of_two_supervisors_one_runs_the_task(executor: ProcessExecutor, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    task = shell(f"echo x >>{mark}")
    controller = executor.controller(task)
    await controller.prepare()
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(executor.controller(task).start)
    await controller.wait()
    assert mark.read_text() == "x\n"


async def test_a_start_cut_short_anywhere_is_finished_by_the_next(executor: ProcessExecutor, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for number, delay_s in enumerate((0.0, 0.002, 0.005, 0.01, 0.02, 0.04)):
        task = make_task("x", number, command=("sh", "-c", f"echo {number} >>{mark}"))
        controller = executor.controller(task)
        await controller.prepare()
        with trio.move_on_after(delay_s):
            await controller.start()
        await controller.start()
        await controller.wait()
    assert mark.read_text().split() == [str(number) for number in range(6)]


async def test_a_pid_in_other_hands_is_not_touched(executor: ProcessExecutor, directory: Path) -> None:
    task = shell("true")
    controller = executor.controller(task)
    await controller.prepare()
    stranger = await trio.lowlevel.open_process(["sleep", "60"], start_new_session=True)
    files = TaskFiles(directory / task.id)
    files.write_intent(proc.boot_id())
    for name in ("supervisor", "child"):
        (files.path / name).write_text(f"{stranger.pid} 1 {proc.boot_id()}\n")
    await controller.shutdown()
    assert stranger.poll() is None
    stranger.kill()
    await stranger.wait()
    with pytest.raises(TaskExited, match="unknown"):
        await controller.wait()


async def test_reap_uses_the_tasks_own_stop_signal(executor: ProcessExecutor) -> None:
    ready = executor.log_path("x").parent.parent.parent / "up"
    os.mkfifo(ready)
    task = shell(
        f"trap 'echo polite >{ready}; exit' HUP; echo up >{ready}; sleep 60 & wait", stop_signal="HUP", grace_s=5.0
    )
    await started(executor, task)
    assert await trio.to_thread.run_sync(ready.read_text) == "up\n"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(executor.reap, [])
        assert await trio.to_thread.run_sync(ready.read_text) == "polite\n"


# -- the machine ------------------------------------------------------------------------------------------------------
async def test_the_description_is_the_machines(executor: ProcessExecutor, directory: Path) -> None:
    description = await executor.describe()
    assert description.hostname == socket.gethostname()
    assert description.engine_version == "process/1"
    assert (await ProcessExecutor(directory, hostname="other").describe()).hostname == "other"


async def test_a_supervisor_is_small(executor: ProcessExecutor, directory: Path) -> None:
    task = shell("exec sleep 60")
    controller = await started(executor, task)
    supervisor = handle(directory, task).supervisor
    assert supervisor is not None
    assert resident_kb(supervisor) < 8_000
    await controller.terminate()
