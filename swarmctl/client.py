"""One conversation with the daemon: reads, and changes that are retried without acting twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from swarmctl.environment import Environment, Link
from swarmd.errors import DeadlineExceeded, OutcomeUnknown, SwarmError, Unavailable
from swarmd.wire.control import StatusReply, StatusRequest
from swarmd.wire.frames import Headers
from swarmd.wire.methods import STATUS, Method

Req = TypeVar("Req")
Resp = TypeVar("Resp")

CALL_S_MAX: Final = 15.0
"""One try. A manager itself waits 10 s for a leader before it says that there is none."""
CHANGE_S_MAX: Final = 30.0
"""All tries of one change."""
LAST_WORD_S_MIN: Final = 5.0
"""`Unavailable` after so long is final: the daemon has itself waited for a leader. Sooner, it is tried again."""
RETRY_S_MIN: Final = 0.05
RETRY_S_MAX: Final = 1.0
KEY_BYTES: Final = 16


class Client:
    """The daemon behind `socket`. Connects at the first call, and anew after a connection was lost."""

    def __init__(self, socket: Path, environment: Environment, *, stale: bool = False) -> None:
        self._socket = socket
        self._environment = environment
        self._stale = stale
        self._link: Link | None = None
        self._seen_index: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up. Idempotent."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def status(self) -> StatusReply:
        """The daemon's own view; needs no leader."""
        return self.read(STATUS, StatusRequest())

    def read(self, method: Method[Req, Resp], request: Req) -> Resp:
        """One try. Raises the daemon's error, `DeadlineExceeded`, `Unavailable`."""
        return self._call(method, request, timeout_s=CALL_S_MAX, headers=Headers(stale=self._stale))

    def stream(self, method: Method[Req, Resp], request: Req, *, silence_s: float) -> Iterator[Resp]:
        """Messages of a server stream, one try; the connection serves nothing else meanwhile.

        Raises the daemon's error; `Unavailable` also after `silence_s` without a message.
        """
        if self._link is None:
            self._link = self._environment.connect(self._socket)
        headers = Headers(stale=self._stale)
        try:
            yield from self._link.stream(method, request, silence_s=silence_s, headers=headers)
        except (Unavailable, DeadlineExceeded):
            self.close()
            raise

    def change(self, method: Method[Req, Resp], request: Req) -> Resp:
        """As many tries as 30 s hold, all under one idempotency key, so that it takes effect at most once.

        Raises the daemon's error; `Unavailable` when time is up, or at once when the daemon has waited in vain for a
        leader; `OutcomeUnknown` if one of the tries may still take effect.
        """
        headers = Headers(key=self._environment.random_bytes(KEY_BYTES), seen_index=self._index())
        clock = self._environment.monotonic
        give_up_at, pause = clock() + CHANGE_S_MAX, RETRY_S_MIN
        doubt: SwarmError | None = None
        while True:
            began = clock()
            try:
                return self._call(method, request, timeout_s=min(give_up_at - began, CALL_S_MAX), headers=headers)
            except (Unavailable, DeadlineExceeded) as error:
                doubt = error if isinstance(error, OutcomeUnknown | DeadlineExceeded) else doubt
                has_waited = type(error) is Unavailable and clock() - began >= LAST_WORD_S_MIN
                if has_waited or give_up_at - clock() <= pause:
                    raise _last_word(error, doubt) from error
            self._environment.sleep(pause)
            pause = min(2 * pause, RETRY_S_MAX)

    def _index(self) -> int:
        """The index seen before the first change: what tells a manager that the key cannot be older than its memory."""
        if self._seen_index is None:
            self._seen_index = self.status().applied_index
        return self._seen_index

    def _call(self, method: Method[Req, Resp], request: Req, *, timeout_s: float, headers: Headers) -> Resp:
        if self._link is None:
            self._link = self._environment.connect(self._socket)
        try:
            return self._link.call(method, request, timeout_s=timeout_s, headers=headers)
        except (Unavailable, DeadlineExceeded):
            self.close()
            raise


def _last_word(error: SwarmError, doubt: SwarmError | None) -> SwarmError:
    """`error` ended the last try; `doubt` an earlier one, or the same, of which nobody can say whether it acted."""
    if doubt is None or isinstance(error, OutcomeUnknown):
        return error
    if isinstance(error, DeadlineExceeded):
        what = "the daemon did not answer in time"
    else:
        what = f"an earlier try was not answered, and then: {error.message}"
    return OutcomeUnknown(f"{what}; the change may still take effect", hint="look before you try again")
