"""Stop signals, and what is recovered from a plan on disk."""

from __future__ import annotations

import signal

import pytest
from msgspec.structs import replace

from swarmd.executor import TaskError
from swarmd.executor.process.launch import Plan
from swarmd.executor.process.plan import StopPolicy, check, decode_stop, encode_plan, parse_signal
from swarmd.executor.process.proc import ProcessIdentity
from swarmd.model import Driver, GenericResource
from tests.contract.executor.harness import make_task


@pytest.mark.parametrize(
    ("text", "number"),
    [("", 15), ("SIGINT", 2), ("int", 2), ("9", 9), ("SIGRTMIN+3", signal.SIGRTMIN + 3), ("RTMIN", signal.SIGRTMIN)],
)
def test_a_signal_has_many_names(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize("text", ["SIGNOPE", "0", "999", "SIGTERM+1", "SIGRTMIN+99"])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(TaskError, match="stop_signal"):
        parse_signal(text)


def test_the_plan_holds_what_the_launcher_and_a_later_stop_need() -> None:
    task = make_task("x", command=("a", "b=c"), dir="/tmp", env=("K=v=w",), stop_signal="INT", grace_s=2.5)
    records = encode_plan(task, path="/bin")
    plan = Plan(records)
    assert plan.arguments == [b"a", b"b=c"]
    assert plan.directory == b"/tmp"
    assert plan.environment[b"K"] == b"v=w"
    assert plan.environment[b"PATH"] == b"/bin"
    assert decode_stop(records) == StopPolicy(signal_number=2, grace_s=2.5)


def test_a_program_learns_which_generic_resources_it_got() -> None:
    got = (GenericResource(kind="gpu", names=("U1", "U2")),)
    task = replace(make_task("x", command=("a",)), assigned_generic_resources=got)
    assert Plan(encode_plan(task, path="/bin")).environment[b"DOCKER_RESOURCE_GPU"] == b"U1,U2"


def test_a_log_driver_is_refused_and_not_ignored() -> None:
    task = replace(make_task("x", command=("a",)), log_driver=Driver(name="syslog"))
    with pytest.raises(TaskError, match="log driver 'syslog'"):
        check(task)


def test_a_lost_plan_is_stopped_by_default() -> None:
    assert decode_stop(b"") == StopPolicy()


@pytest.mark.parametrize("text", ["", "1 2", "x 2 boot", "1 2 3 4"])
def test_a_torn_identity_is_nobody(text: str) -> None:
    assert ProcessIdentity.parse(text).pid == 0


def test_an_identity_survives_its_file() -> None:
    identity = ProcessIdentity(pid=7, start_ticks=8, boot_id="boot")
    assert ProcessIdentity.parse(f"{identity}\n") == identity
