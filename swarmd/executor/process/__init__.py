"""Tasks as plain processes, each under a supervisor of its own that outlives swarmd. Must not know the agent."""

from swarmd.executor.process.executor import ProcessExecutor

__all__ = ["ProcessExecutor"]
