"""Flags, logging, signals and exit status of the daemon."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from swarmd import __main__ as daemon
from swarmd.errors import FailedPrecondition, Invalid, PermissionDenied, Unavailable, Unimplemented
from swarmd.node.config import Config


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("swarmd")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:], root.level, ours.level = before[0], before[1], before[2]


def run_main(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        daemon.main(arguments)
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--bogus",), "No such option"),
        (("--heartbeat-tick", "x"), "not a valid"),
        (("surplus",), "surplus"),
        (("--log-level", "loud"), "--log-level"),
        (("--log-format", "xml"), "--log-format"),
        (("--executor", "podman"), "--executor"),
        (("--hostname", "-x-"), "--hostname"),
        (("--listen-remote-api", "nowhere:99999"), "--listen-remote-api"),
        (("--advertise-remote-api", "0.0.0.0:1"), "--advertise-remote-api"),
        (("--election-tick", "2"), "--election-tick"),
        (("--join-token", "SWMTKN-1-x"), "--join-token"),
        (("--join-token", "secret", "--join-addr", "10.0.0.1"), "token"),
        (("--engine-addr", "docker.sock"), "--engine-addr"),
        (("--generic-node-resources", "gpu"), "--generic-node-resources"),
    ],
)
def test_a_flag_that_cannot_be_is_one_line_a_hint_and_78(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    state = tmp_path / "state"
    assert run_main("-d", str(state), *arguments) == 78
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    if says != "not a valid":  # the wording of numbers is Typer's
        assert says in lines[0]
    assert lines[0].startswith("Error: ")
    assert lines[1].startswith("Hint: ")
    assert len(lines) == 2
    assert printed.out == ""
    assert not state.exists()


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main("--version") == 0
    assert capsys.readouterr().out.startswith("swarmd ")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Invalid("x"), 78),
        (Unimplemented("x"), 78),
        (Unavailable("no manager let this node in"), 75),
        (PermissionDenied("wrong token"), 1),
        (FailedPrecondition("in use"), 1),
    ],
)
def test_what_refuses_the_start_is_one_line_and_a_status_even_from_within_groups(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, status: int
) -> None:
    async def refuse(config: Config) -> None:
        await trio.lowlevel.checkpoint()
        raise ExceptionGroup("of a nursery", [ExceptionGroup("of another", [error])])

    monkeypatch.setattr(daemon, "run_until_signalled", refuse)
    assert daemon.run(Config()) == status
    assert capsys.readouterr().err == f"Error: {error}\n"


def test_a_defect_is_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(config: Config) -> None:
        await trio.lowlevel.checkpoint()
        raise TypeError("a defect")

    monkeypatch.setattr(daemon, "run_until_signalled", fail)
    with pytest.raises(TypeError):
        daemon.run(Config())


def test_the_limit_of_open_files_is_raised_to_what_is_allowed() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
        daemon.raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class FakeNode:
    """Lives until it is told to stop, and for ever if it is stubborn."""

    def __init__(self, config: Config, *, is_stubborn: bool = False) -> None:
        self.stopped = trio.Event()
        self._is_stubborn = is_stubborn

    def stop(self) -> None:
        self.stopped.set()

    async def run(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await self.stopped.wait()
        if self._is_stubborn:
            os.kill(os.getpid(), signal.SIGTERM)
            await trio.sleep_forever()


async def test_a_signal_stops_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarmd.node.node.Node", FakeNode)
    with trio.fail_after(10):
        await daemon.run_until_signalled(Config())


async def test_a_second_signal_leaves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Left(BaseException):
        pass

    def leave(status: int) -> None:
        raise Left(status)

    monkeypatch.setattr("swarmd.node.node.Node", lambda config: FakeNode(config, is_stubborn=True))
    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    with trio.fail_after(10), pytest.RaisesGroup(pytest.RaisesExc(Left, match="1"), flatten_subgroups=True):
        await daemon.run_until_signalled(Config())


async def test_a_node_that_does_not_stop_in_time_is_left(monkeypatch: pytest.MonkeyPatch, autojump_clock: Any) -> None:
    class Left(BaseException):
        pass

    def leave(status: int) -> None:
        raise Left(status)

    async def one_signal() -> Any:
        yield signal.SIGTERM
        await trio.sleep_forever()

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    stopped: list[float] = []
    with pytest.raises(Left):
        await daemon._stop_on_signal(one_signal(), lambda: stopped.append(trio.current_time()))
    assert trio.current_time() - stopped[0] == pytest.approx(daemon.STOP_S_MAX)


def test_a_line_of_the_json_log_is_one_object() -> None:
    try:
        raise ValueError("inside")
    except ValueError:
        record = logging.getLogger("swarmd.x").makeRecord(
            "swarmd.x", logging.ERROR, "f", 1, "it %s", ("failed",), sys.exc_info()
        )
    line = daemon.JsonFormatter().format(record)
    assert "\n" not in line
    told = json.loads(line)
    assert (told["level"], told["logger"], told["message"]) == ("error", "swarmd.x", "it failed")
    assert "ValueError: inside" in told["traceback"]
