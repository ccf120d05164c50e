"""The error tree: one kind per situation, the same on the wire, in the API and in the CLI's exit code.

Knows nothing of the rest of the system.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class ErrorKind(StrEnum):
    """What went wrong, as it is written on the wire. Append-only."""

    INVALID = "invalid"
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    CONFLICT = "conflict"
    FAILED_PRECONDITION = "failed_precondition"
    PERMISSION_DENIED = "permission_denied"
    UNAUTHENTICATED = "unauthenticated"
    UNAVAILABLE = "unavailable"
    GONE = "gone"
    RESOURCE_EXHAUSTED = "resource_exhausted"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    CANCELLED = "cancelled"
    UNIMPLEMENTED = "unimplemented"
    INTERNAL = "internal"


class SwarmError(Exception):
    """An error with a kind, told to the user as one line and, where one helps, a hint.

    Args:
        message: what happened, in the user's words.
        field: path of the offending input (`$.task.container.image`), if there is one.
        object: what it happened to (`service web`), if that is not in the message.
        hint: what the user can do about it.
        retry_after_s: when a program may ask again, if whoever refused said so.
    """

    kind: ErrorKind = ErrorKind.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        object: str | None = None,
        hint: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.object = object
        self.hint = hint
        self.retry_after_s = retry_after_s


class Invalid(SwarmError):
    """The request can never succeed as it is."""

    kind = ErrorKind.INVALID


class NotFound(SwarmError):
    """What the request names does not exist."""

    kind = ErrorKind.NOT_FOUND


class AlreadyExists(SwarmError):
    """A name or id that the request wants is taken."""

    kind = ErrorKind.ALREADY_EXISTS


class Conflict(SwarmError):
    """Somebody else changed what the request was based on; read again and retry."""

    kind = ErrorKind.CONFLICT


class FailedPrecondition(SwarmError):
    """The system is not in a state that allows the request."""

    kind = ErrorKind.FAILED_PRECONDITION


class Locked(FailedPrecondition):
    """What this manager keeps on its disk is sealed, and it was not given the unlock key yet."""


class PermissionDenied(SwarmError):
    """The caller is known and may not do this."""

    kind = ErrorKind.PERMISSION_DENIED


class Unauthenticated(SwarmError):
    """The caller has not shown who it is."""

    kind = ErrorKind.UNAUTHENTICATED


class Unavailable(SwarmError):
    """Not now: no leader, no connection, shutting down. `outcome_unknown` says that it may still happen."""

    kind = ErrorKind.UNAVAILABLE


class OutcomeUnknown(Unavailable):
    """The change was proposed and may or may not take effect."""


class Gone(SwarmError):
    """What the caller holds (a watch position, an idempotency key) is too old; read again."""

    kind = ErrorKind.GONE


class ResourceExhausted(SwarmError):
    """A stated limit was reached."""

    kind = ErrorKind.RESOURCE_EXHAUSTED


class DeadlineExceeded(SwarmError):
    """The caller's deadline passed."""

    kind = ErrorKind.DEADLINE_EXCEEDED


class Cancelled(SwarmError):
    """The caller went away."""

    kind = ErrorKind.CANCELLED


class Unimplemented(SwarmError):
    """Known, and not built (yet)."""

    kind = ErrorKind.UNIMPLEMENTED


class Internal(SwarmError):
    """A defect of ours."""

    kind = ErrorKind.INTERNAL


CLASS_OF_KIND: Final[dict[ErrorKind, type[SwarmError]]] = {
    ErrorKind.INVALID: Invalid,
    ErrorKind.NOT_FOUND: NotFound,
    ErrorKind.ALREADY_EXISTS: AlreadyExists,
    ErrorKind.CONFLICT: Conflict,
    ErrorKind.FAILED_PRECONDITION: FailedPrecondition,
    ErrorKind.PERMISSION_DENIED: PermissionDenied,
    ErrorKind.UNAUTHENTICATED: Unauthenticated,
    ErrorKind.UNAVAILABLE: Unavailable,
    ErrorKind.GONE: Gone,
    ErrorKind.RESOURCE_EXHAUSTED: ResourceExhausted,
    ErrorKind.DEADLINE_EXCEEDED: DeadlineExceeded,
    ErrorKind.CANCELLED: Cancelled,
    ErrorKind.UNIMPLEMENTED: Unimplemented,
    ErrorKind.INTERNAL: Internal,
}
"""Total: `tests/unit/test_errors.py` holds it against the enum."""

EXIT_CODE: Final[dict[ErrorKind, int]] = {
    ErrorKind.INVALID: 2,
    ErrorKind.NOT_FOUND: 3,
    ErrorKind.ALREADY_EXISTS: 4,
    ErrorKind.CONFLICT: 4,
    ErrorKind.FAILED_PRECONDITION: 4,
    ErrorKind.PERMISSION_DENIED: 5,
    ErrorKind.UNAUTHENTICATED: 5,
    ErrorKind.UNAVAILABLE: 6,
    ErrorKind.GONE: 4,
    ErrorKind.RESOURCE_EXHAUSTED: 4,
    ErrorKind.DEADLINE_EXCEEDED: 7,
    ErrorKind.CANCELLED: 130,
    ErrorKind.UNIMPLEMENTED: 1,
    ErrorKind.INTERNAL: 1,
}
"""swarmctl's exit status per kind. 9 (rolled back) and 10 (paused or rejected) are outcomes, not errors."""

EXIT_USAGE: Final = 2
EXIT_ROLLED_BACK: Final = 9
EXIT_PAUSED: Final = 10
EXIT_INTERRUPTED: Final = 130
EXIT_BAD_CONFIG: Final = 78
EXIT_LOCKED: Final = 77
EXIT_NO_MANAGER: Final = 75
