"""The Docker executor: each task is a container of an engine. Alone imports docker.

Must not know services, managers, sessions, or which state a task is in.
"""

from swarmd.executor.docker.executor import DockerExecutor

__all__ = ["DockerExecutor"]
