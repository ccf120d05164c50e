"""How a command line ends when it does not end well."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swarmctl.command_line import run
from swarmctl.environment import Environment
from swarmd.errors import CLASS_OF_KIND, EXIT_CODE, ErrorKind, Unavailable
from tests.unit.swarmctl.fake_daemon import FakeDaemon, Result, service_view


@pytest.fixture
def daemon() -> FakeDaemon:
    daemon = FakeDaemon()
    daemon.services = [service_view("s", "web")]
    return daemon


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_every_kind_is_one_line_a_hint_and_its_exit_code(daemon: FakeDaemon, kind: ErrorKind) -> None:
    daemon.errors["service.list"] = [CLASS_OF_KIND[kind]("it went\nwrong", hint="do this")]
    result = daemon.run("service", "ls")
    assert result.code == EXIT_CODE[kind]
    assert (result.out, result.err) == ("", "Error: it went wrong\nHint: do this\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("servic ls", 'no such command "servic"; did you mean "service"?'),
        ("service inspct", 'no such command "inspct"; did you mean "inspect"?'),
        ("zzz", 'no such command "zzz"'),
        ("service ls --frob", "No such option: --frob"),
        ("service inspect", "Missing argument"),
        ("service inspect a b", "unexpected extra argument"),
        ("service rm", "Missing argument"),
        ("service create --name", "requires an argument"),
        ("service create --name x", "--image is missing"),
        ("service create --image x", "--name is missing"),
        ("service create --name x --image y --replicas many", "--replicas"),
        ("service create --name x --image y --env", "requires an argument"),
        ("service create --name x --image y --label novalue", "--label"),
        ("service create --name x --image y --cpu-limit lots", "--cpu-limit"),
        ("service create --name x --image y --restart-condition maybe", "--restart-condition"),
        ("service update web --version x --force", "--version"),
        ("service ls -o xml", 'no format "xml"'),
        ("service ls --socket", "requires an argument"),
    ],
)
def test_usage_errors_exit_2_without_asking_anybody(daemon: FakeDaemon, arguments: str, message: str) -> None:
    result = daemon.run(*arguments.split())
    assert result.code == 2, result.err
    first, *rest = result.err.splitlines()
    assert first.startswith("Error: ")
    assert message in first
    assert len(rest) <= 1
    assert all(line.startswith("Hint: ") for line in rest)
    assert result.out == ""
    assert daemon.connections == 0


@pytest.mark.parametrize(
    "arguments",
    ["stack", "volume create x", "service logs web", "node ps",
     "task rm x", "swarm init --force", "stack deploy -c x"],
)  # fmt: skip
def test_what_is_planned_says_that_it_is_not_built_yet(daemon: FakeDaemon, arguments: str) -> None:
    result = daemon.run(*arguments.split())
    assert result.code == 1
    assert result.err.startswith('Error: "swarmctl ')
    assert result.err.endswith('" is not built yet\n')
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("arguments", ["", "service", "node -h", "service create --help", "--help"])
def test_help(daemon: FakeDaemon, arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert daemon.run(*arguments.split()).code == 0
    assert "Usage: swarmctl" in capsys.readouterr().out


def test_version(daemon: FakeDaemon) -> None:
    from swarmd import __version__

    assert daemon.run("version").out == f"swarmctl swarmd {__version__}\n"


def outcome(*, on_connect: Callable[[Path], Any] | None = None, out: Any = None, **variables: str) -> Result:
    daemon = FakeDaemon()
    stdout, stderr = out or io.StringIO(), io.StringIO()
    environment = Environment(connect=on_connect or (lambda path: daemon), variables=variables, out=stdout, err=stderr)
    code = run(("service", "ls"), environment)
    return Result(code, "", stderr.getvalue())


def raising(error: BaseException) -> Callable[[Path], Any]:
    def connect(path: Path) -> Any:
        raise error

    return connect


def test_missing_socket() -> None:
    error = Unavailable("no daemon at /nowhere: there is no such file", hint="is swarmd running?")
    result = outcome(on_connect=raising(error))
    assert (result.code, result.err) == (
        6,
        "Error: no daemon at /nowhere: there is no such file\nHint: is swarmd running?\n",
    )


def test_interrupt() -> None:
    result = outcome(on_connect=raising(KeyboardInterrupt()))
    assert result.code == 130
    assert "Traceback" not in result.err


def test_reader_that_went_away() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    assert outcome(out=Closed()).code == 141


def test_a_defect_is_one_line_too() -> None:
    result = outcome(on_connect=raising(RuntimeError("oops\nmore")))
    assert result.code == 1
    first, hint = result.err.splitlines()
    assert first == "Error: unexpected RuntimeError: oops more"
    assert "SWARMCTL_TRACEBACK" in hint
    with pytest.raises(RuntimeError):
        outcome(on_connect=raising(RuntimeError("oops")), SWARMCTL_TRACEBACK="1")


def test_arguments_that_are_no_text_are_refused(daemon: FakeDaemon) -> None:
    result = daemon.run("service", "inspect", "\udcff")
    assert (result.code, result.err) == (2, "Error: argument 3 is not valid UTF-8\n")


def test_as_a_module_with_a_closed_pipe_and_without_a_daemon(tmp_path: Path) -> None:
    command = f"{sys.executable} -m swarmctl -s {tmp_path}/none.sock service ls 2>&1; echo code $?"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True, timeout=60)
    assert "Traceback" not in done.stdout
    assert done.stdout.startswith("Error: ")
    command = f"{sys.executable} -m swarmctl service create --help | true"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""


def test_starting_imports_nothing_slow() -> None:
    slow = ["trio", "pydantic", "rich", "cryptography", "docker", "apsw", "swarmctl.commands.node"]
    code = (
        "import sys; from swarmctl.command_line import run; from swarmctl.environment import Environment;"
        "run(['service', 'ls', '-s', '/nonexistent'], Environment());"
        f"print([name for name in {slow!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
