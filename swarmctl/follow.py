"""Following what happens across lost connections: each transaction once, whole, in order; or an error that says where.

A connection that is lost costs nothing: the next one goes on behind the last transaction that was handed out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from msgspec.structs import replace

from swarmctl.client import Client
from swarmctl.environment import Environment
from swarmd.errors import Cancelled, DeadlineExceeded, Gone, SwarmError, Unavailable
from swarmd.wire.methods import WATCH
from swarmd.wire.watch import WatchedEvent, WatchMessage, WatchRequest

SILENCE_S_MAX: Final = 35.0
"""A manager says something every 10 s, however quiet the swarm is."""
RECONNECT_S_MAX: Final = 60.0
"""How long a manager may be away. What happened meanwhile is told afterwards, while it is remembered."""
PAUSE_S_MIN: Final = 0.1
PAUSE_S_MAX: Final = 2.0


class Transaction(NamedTuple):
    """Everything that one log entry did, as far as it fits. `at`: epoch seconds, by the leader's clock."""

    version: int
    at: float
    events: tuple[WatchedEvent, ...]


class Follower:
    """One watch. `position` is the version up to which it is complete, None before it began.

    Args:
        note: told, in a line, when it goes on after an interruption.
    """

    def __init__(
        self, client: Client, environment: Environment, request: WatchRequest, note: Callable[[str], None]
    ) -> None:
        self._client = client
        self._environment = environment
        self._request = request
        self._note = note
        self._is_established = False
        self._lost: SwarmError | None = None
        self.position: int | None = None

    def transactions(self) -> Iterator[Transaction]:
        """What happens, for ever. Raises what keeps it from beginning, `Gone` when a gap cannot be closed, and
        `Unavailable` when the manager stays away."""
        pause, give_up_at = PAUSE_S_MIN, 0.0
        while True:
            try:
                yield from self._until_lost()
            except (Unavailable, DeadlineExceeded, Cancelled, Gone) as error:
                now = self._environment.monotonic()
                if self._is_established:
                    self._is_established, pause, give_up_at = False, PAUSE_S_MIN, now + RECONNECT_S_MAX
                elif self.position is None or isinstance(error, Gone) or now + pause > give_up_at:
                    raise
                self._lost = error
            self._environment.sleep(pause)
            pause = min(2 * pause, PAUSE_S_MAX)

    def _until_lost(self) -> Iterator[Transaction]:
        after = self._request.after if self.position is None else self.position
        events: list[WatchedEvent] = []
        for message in self._client.stream(WATCH, replace(self._request, after=after), silence_s=SILENCE_S_MAX):
            if not self._is_established:
                self._begin(message)
                continue
            events += message.events
            if not message.is_partial:
                if events:
                    yield Transaction(message.version, message.at, tuple(events))
                self.position, events = message.version, []
        raise Unavailable("the manager ended the watch")

    def _begin(self, message: WatchMessage) -> None:
        self._is_established = True
        if self._lost is not None:
            self._note(f"Note: resumed at version {message.version}, no events missed ({self._lost.message})")
            self._lost = None
        self.position = message.version
