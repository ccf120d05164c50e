"""The table of reference dispatch-agent-executor 5.4, and what an outcome makes of a status."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.agent import machine
from swarmd.agent.machine import Step, next_step
from swarmd.executor import TaskError, TaskExited, TemporaryTaskError
from swarmd.model import ContainerStatus, TaskState, TaskStatus

S = TaskState
OBSERVED = [state for state in S if state is not S.REMOVE]
DESIRED = [S.READY, S.RUNNING, S.COMPLETE, S.SHUTDOWN, S.REMOVE]


@pytest.mark.parametrize(
    ("desired", "observed", "step"),
    [
        (S.SHUTDOWN, S.COMPLETE, Step.IDLE),
        (S.SHUTDOWN, S.FAILED, Step.IDLE),
        (S.REMOVE, S.ORPHANED, Step.IDLE),
        (S.SHUTDOWN, S.RUNNING, Step.SHUTDOWN),
        (S.SHUTDOWN, S.ASSIGNED, Step.SHUTDOWN),
        (S.REMOVE, S.PREPARING, Step.SHUTDOWN),
        (S.READY, S.STARTING, Step.IDLE),
        (S.READY, S.RUNNING, Step.IDLE),
        (S.RUNNING, S.FAILED, Step.IDLE),
        (S.READY, S.PREPARING, Step.PREPARE),
        (S.RUNNING, S.PREPARING, Step.PREPARE),
        (S.RUNNING, S.STARTING, Step.START),
        (S.RUNNING, S.RUNNING, Step.WAIT),
        (S.COMPLETE, S.RUNNING, Step.WAIT),
        (S.READY, S.READY, Step.IDLE),
        (S.RUNNING, S.NEW, Step.ACCEPT),
        (S.RUNNING, S.PENDING, Step.ACCEPT),
        (S.RUNNING, S.ASSIGNED, Step.ACCEPT),
        (S.READY, S.ACCEPTED, Step.BEGIN_PREPARING),
        (S.RUNNING, S.READY, Step.BEGIN_STARTING),
        (S.COMPLETE, S.ASSIGNED, Step.ACCEPT),
        (S.COMPLETE, S.PREPARING, Step.PREPARE),
        (S.COMPLETE, S.READY, Step.BEGIN_STARTING),
        (S.COMPLETE, S.STARTING, Step.START),
        (S.COMPLETE, S.COMPLETE, Step.IDLE),
        (S.COMPLETE, S.FAILED, Step.IDLE),
    ],
)
def test_the_first_matching_row_decides(desired: TaskState, observed: TaskState, step: Step) -> None:
    assert next_step(desired, observed) is step


@pytest.mark.parametrize("desired", DESIRED)
def test_every_task_comes_to_rest_and_never_goes_back(desired: TaskState) -> None:
    status, steps = TaskStatus(state=S.ASSIGNED), []
    while (step := next_step(desired, status.state)) is not Step.IDLE:
        moved = machine.succeeded(step, status, now=1.0)
        assert moved.state > status.state
        status = moved
        steps.append(step)
    assert steps.count(Step.START) <= 1
    expected = {S.READY: S.READY, S.RUNNING: S.COMPLETE, S.COMPLETE: S.COMPLETE}
    assert status.state is expected.get(desired, S.SHUTDOWN)


@given(desired=st.sampled_from(DESIRED), observed=st.sampled_from(OBSERVED))
@settings(max_examples=60, deadline=None)
def test_a_terminal_task_is_never_touched(desired: TaskState, observed: TaskState) -> None:
    if observed.is_terminal:
        assert next_step(desired, observed) is Step.IDLE


@pytest.mark.parametrize(
    ("step", "state", "result"),
    [
        (Step.PREPARE, S.PREPARING, S.REJECTED),
        (Step.START, S.STARTING, S.FAILED),
        (Step.WAIT, S.RUNNING, S.FAILED),
    ],
)
def test_a_permanent_error_rejects_before_starting_and_fails_after(
    step: Step, state: TaskState, result: TaskState
) -> None:
    status = machine.failed(step, TaskStatus(state=state, message="m"), TaskError("no such user"), now=2.0)
    assert (status.state, status.err, status.at) == (result, "no such user", 2.0)


def test_an_exit_records_its_status() -> None:
    before = TaskStatus(state=S.RUNNING, container=ContainerStatus(container_id="c", pid=7))
    status = machine.failed(Step.WAIT, before, TaskExited(3, "exit status 3"), now=2.0)
    assert status.state is S.FAILED
    assert status.container == ContainerStatus(container_id="c", pid=7, exit_code=3)


def test_success_clears_the_error() -> None:
    status = machine.succeeded(Step.PREPARE, TaskStatus(state=S.PREPARING, err="later", at=1.0), now=2.0)
    assert (status.state, status.message, status.err, status.at) == (S.READY, "prepared", "", 2.0)


def test_the_instant_changes_only_with_something_else() -> None:
    error = TemporaryTaskError("engine away")
    first = machine.delayed(TaskStatus(state=S.PREPARING, message="preparing"), error, now=1.0)
    assert (first.state, first.err, first.at) == (S.PREPARING, "engine away", 1.0)
    assert machine.delayed(first, error, now=2.0) is first


def test_going_back_is_a_defect() -> None:
    with pytest.raises(AssertionError):
        machine.succeeded(Step.ACCEPT, TaskStatus(state=S.RUNNING), now=1.0)


@pytest.mark.parametrize(
    ("state", "result"),
    [(S.ASSIGNED, S.REJECTED), (S.READY, S.REJECTED), (S.STARTING, S.FAILED), (S.RUNNING, S.FAILED)],
)
def test_a_task_without_controller_cannot_live(state: TaskState, result: TaskState) -> None:
    status = machine.unresolved(TaskStatus(state=state), TaskError("no command"), now=1.0)
    assert (status.state, status.message, status.err) == (result, "resolving controller failed", "no command")


def test_a_task_without_controller_that_is_over_stays_as_it_is() -> None:
    status = TaskStatus(state=S.COMPLETE, message="finished")
    assert machine.unresolved(status, TaskError("no command"), now=1.0) is status


def test_temporary_errors_are_bounded_except_where_something_may_still_run() -> None:
    temporary, permanent = TemporaryTaskError("busy"), TaskError("never")
    last = machine.TEMPORARY_ERRORS_MAX
    for step in (Step.PREPARE, Step.START):
        assert machine.is_worth_retrying(step, temporary, last - 1)
        assert not machine.is_worth_retrying(step, temporary, last)
        assert not machine.is_worth_retrying(step, permanent, 1)
    assert machine.is_worth_retrying(Step.WAIT, temporary, 10 * last)
    assert not machine.is_worth_retrying(Step.WAIT, permanent, 1)
    assert machine.is_worth_retrying(Step.SHUTDOWN, permanent, 10 * last)


def test_retries_slow_down_to_a_limit() -> None:
    assert [machine.retry_delay_s(n) for n in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert machine.retry_delay_s(10_000) == 30
