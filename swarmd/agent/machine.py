"""The task machine as a function: from what is wanted and what was seen to the next step, from its outcome to a status.

Pure: no Trio, no clock (reference dispatch-agent-executor 5.3, 5.4; SwarmKit `agent/exec/controller.go`).

Must not know how a step is carried out, or who is told.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from msgspec.structs import replace

from swarmd.executor import TaskExited, TemporaryTaskError
from swarmd.model import ContainerStatus, TaskState, TaskStatus

RETRY_DELAY_MIN_S: Final = 1.0
RETRY_DELAY_MAX_S: Final = 30.0
TEMPORARY_ERRORS_MAX: Final = 10
"""Some three minutes of trying; then a temporary error counts as permanent and the orchestrator places a new task."""


class Step(Enum):
    """What to do next with a task. All but IDLE end in a new status."""

    IDLE = auto()
    """Nothing, until something else is wanted."""
    ACCEPT = auto()
    BEGIN_PREPARING = auto()
    PREPARE = auto()
    BEGIN_STARTING = auto()
    START = auto()
    WAIT = auto()
    SHUTDOWN = auto()


_BY_STATE: Final = {
    TaskState.NEW: Step.ACCEPT,
    TaskState.PENDING: Step.ACCEPT,
    TaskState.ASSIGNED: Step.ACCEPT,
    TaskState.ACCEPTED: Step.BEGIN_PREPARING,
    TaskState.READY: Step.BEGIN_STARTING,
}
_EVEN_IF_REACHED: Final = {
    TaskState.PREPARING: Step.PREPARE,
    TaskState.STARTING: Step.START,
    TaskState.RUNNING: Step.WAIT,
}
"""What is under way is finished, also when no more than this state is wanted."""

_RESULT: Final = {
    Step.ACCEPT: (TaskState.ACCEPTED, "accepted"),
    Step.BEGIN_PREPARING: (TaskState.PREPARING, "preparing"),
    Step.PREPARE: (TaskState.READY, "prepared"),
    Step.BEGIN_STARTING: (TaskState.STARTING, "starting"),
    Step.START: (TaskState.RUNNING, "started"),
    Step.WAIT: (TaskState.COMPLETE, "finished"),
    Step.SHUTDOWN: (TaskState.SHUTDOWN, "shutdown"),
}


def next_step(desired: TaskState, observed: TaskState) -> Step:
    """The one thing to do now. The first matching row of the reference's table wins."""
    if desired >= TaskState.SHUTDOWN:
        return Step.IDLE if observed.is_terminal else Step.SHUTDOWN
    if observed > desired:
        return Step.IDLE
    if observed in _EVEN_IF_REACHED:
        return _EVEN_IF_REACHED[observed]
    if observed >= desired:
        return Step.IDLE
    return _BY_STATE.get(observed, Step.IDLE)


def succeeded(step: Step, status: TaskStatus, now: float) -> TaskStatus:
    """The status after `step` did what it should; clears the error."""
    state, message = _RESULT[step]
    return _moved(status, state, now, message=message, err="")


def failed(step: Step, status: TaskStatus, error: Exception, now: float) -> TaskStatus:
    """The status after an error that no retry mends, or after an exit."""
    state = TaskState.FAILED if status.state >= TaskState.STARTING else TaskState.REJECTED
    container = status.container
    if isinstance(error, TaskExited):
        container = replace(container or ContainerStatus(), exit_code=error.exit_code)
    return replace(_moved(status, state, now, message=_FAILURE[step], err=_text(error)), container=container)


def delayed(status: TaskStatus, error: Exception, now: float) -> TaskStatus:
    """The status while a step is tried again: the state stays, the error shows."""
    return _moved(status, status.state, now, message=status.message, err=_text(error))


def unresolved(status: TaskStatus, error: Exception, now: float) -> TaskStatus:
    """The status of a task for which the executor has no controller."""
    if status.state.is_terminal:
        return status
    state = TaskState.FAILED if status.state >= TaskState.STARTING else TaskState.REJECTED
    return _moved(status, state, now, message="resolving controller failed", err=_text(error))


def is_worth_retrying(step: Step, error: Exception, attempts: int) -> bool:
    """Whether to try `step` again after its `attempts`-th error in a row.

    What may still run must not be called ended, or its replacement would be a second copy: a shutdown is tried for
    ever, and so is a wait that failed for a while (SwarmKit gives up and says FAILED).
    """
    is_temporary = isinstance(error, TemporaryTaskError)
    match step:
        case Step.SHUTDOWN:
            return True
        case Step.WAIT:
            return is_temporary
        case _:
            return is_temporary and attempts < TEMPORARY_ERRORS_MAX


def retry_delay_s(attempts: int) -> float:
    """1, 2, 4 ... 30 s: how long to wait after the `attempts`-th error in a row."""
    return min(RETRY_DELAY_MIN_S * 2.0 ** (min(attempts, 10) - 1), RETRY_DELAY_MAX_S)


def accepts(desired: TaskState, wanted: TaskState) -> bool:
    """Whether a task may move from `desired` to `wanted`: like the observed state, the desired one only rises."""
    return wanted >= desired


_FAILURE: Final = {
    Step.ACCEPT: "accepting failed",
    Step.BEGIN_PREPARING: "preparing failed",
    Step.PREPARE: "preparing failed",
    Step.BEGIN_STARTING: "starting failed",
    Step.START: "starting failed",
    Step.WAIT: "started",
    Step.SHUTDOWN: "shutdown failed",
}


def _moved(status: TaskStatus, state: TaskState, now: float, *, message: str, err: str) -> TaskStatus:
    if state < status.state:
        raise AssertionError(f"a task's state went back from {status.state.name} to {state.name}")
    moved = replace(status, state=state, message=message, err=err)
    if moved == status:
        return status
    running_at = status.running_at or (now if state is TaskState.RUNNING else 0.0)
    return replace(moved, at=now, running_at=running_at)


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
