"""How tasks run: the contract and its implementations (docker, process, fake). Alone imports docker.

Must not know services, managers, sessions, or which state a task is in.
"""

from swarmd.executor.contract import Controller, Executor, TaskError, TaskExited, TemporaryTaskError
from swarmd.executor.factory import EXECUTORS, make_executor

__all__ = [
    "EXECUTORS",
    "Controller",
    "Executor",
    "TaskError",
    "TaskExited",
    "TemporaryTaskError",
    "make_executor",
]
