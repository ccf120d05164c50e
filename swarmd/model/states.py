"""The enumerations of the model. Numbers are stored and sent: append-only, never renumbered."""

from __future__ import annotations

from enum import IntEnum


class TaskState(IntEnum):
    """A task's observed state only ever rises; the gaps reserve room (SwarmKit `api/types.proto`)."""

    NEW = 0
    PENDING = 64
    ASSIGNED = 192
    ACCEPTED = 256
    PREPARING = 320
    READY = 384
    STARTING = 448
    RUNNING = 512
    COMPLETE = 576
    SHUTDOWN = 640
    FAILED = 704
    REJECTED = 768
    REMOVE = 800
    """A desired state only: delete the record once the task has stopped."""
    ORPHANED = 832

    @property
    def is_terminal(self) -> bool:
        """Whether a task observed in this state will never run again."""
        return self > TaskState.RUNNING


class NodeState(IntEnum):
    """What the dispatcher knows of a node's session."""

    UNKNOWN = 0
    DOWN = 1
    READY = 2
    DISCONNECTED = 3


class Role(IntEnum):
    """What a node may be; the certificate's OU is `swarm-worker` or `swarm-manager`."""

    WORKER = 0
    MANAGER = 1


class Membership(IntEnum):
    """Whether the operator (or a token) let the node in."""

    PENDING = 0
    ACCEPTED = 1


class TokenlessJoin(IntEnum):
    """What becomes of a node that asks to join and shows no token: it waits for an operator, or is refused."""

    PENDING = 0
    DENY = 1


class Availability(IntEnum):
    """What the operator lets the scheduler do with a node."""

    ACTIVE = 0
    PAUSE = 1
    DRAIN = 2
